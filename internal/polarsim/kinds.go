package polarsim

import "math/rand/v2"

// A meterKind is a pattern for meters and for the quantities they measure.
type meterKind struct {
	Meter          // what all meters of the kind share
	bits      int  // consumption stays below 2^bits of the smallest unit
	places    int  // decimals of the consumption
	pointZero bool // whole numbers are sent as 25.0
	credit    int64
}

// meterKinds covers every form of filter, aggregation and unit.
func meterKinds() []meterKind {
	return []meterKind{
		{bits: 24, credit: 10_000, Meter: Meter{Name: "API calls", Unit: "scalar",
			Filter:      `{"conjunction":"and","clauses":[{"property":"name","operator":"eq","value":"api.request"}]}`,
			Aggregation: `{"func":"count"}`}},
		{bits: 34, pointZero: true, credit: 1_000_000, Meter: Meter{Name: "AI tokens", Unit: "token",
			Filter: `{"conjunction":"and","clauses":[{"property":"name","operator":"eq","value":"llm.completion"},` +
				`{"conjunction":"or","clauses":[{"property":"_llm.vendor","operator":"like","value":"open"},` +
				`{"property":"cached","operator":"eq","value":false}]}]}`,
			Aggregation: `{"func":"sum","property":"_llm.total_tokens"}`}},
		{bits: 38, places: 6, credit: 50, Meter: Meter{Name: "Storage (GB)", Unit: "custom", CustomLabel: new("GB"), CustomMultiplier: new(int64(1_000_000_000)),
			Filter:      `{"conjunction":"or","clauses":[{"property":"name","operator":"eq","value":"storage.snapshot"}]}`,
			Aggregation: `{"func":"max","property":"gigabytes"}`}},
		{bits: 9, credit: 5, Meter: Meter{Name: "Seats", Unit: "scalar",
			Filter:      `{"conjunction":"and","clauses":[{"property":"name","operator":"eq","value":"user.active"}]}`,
			Aggregation: `{"func":"unique","property":"user_id"}`}},
		{bits: 26, places: 2, credit: 500, Meter: Meter{Name: "Build minutes", Unit: "custom", CustomLabel: new("min"), CustomMultiplier: new(int64(60)),
			Filter: `{"conjunction":"and","clauses":[{"property":"name","operator":"ne","value":"build.queued"},` +
				`{"property":"exit_code","operator":"lt","value":128}]}`,
			Aggregation: `{"func":"sum","property":"minutes"}`}},
		{bits: 20, places: 3, pointZero: true, Meter: Meter{Name: "Latency budget", Unit: "scalar",
			Filter:      `{"conjunction":"and","clauses":[{"property":"path","operator":"not_like","value":"/internal/"}]}`,
			Aggregation: `{"func":"avg","property":"milliseconds"}`}},
		{bits: 12, credit: 100, Meter: Meter{Name: "Bildgenerierung 🖼️", Unit: "scalar",
			Filter:      `{"conjunction":"and","clauses":[{"property":"pixels","operator":"gte","value":262144}]}`,
			Aggregation: `{"func":"count"}`}},
		{bits: 40, places: 4, credit: 1000, Meter: Meter{Name: "転送量", Unit: "custom", CustomLabel: new("MB"), CustomMultiplier: new(int64(1_000_000)),
			Filter:      `{"conjunction":"and","clauses":[{"property":"bytes","operator":"gt","value":0}]}`,
			Aggregation: `{"func":"min","property":"megabytes"}`}},
	}
}

func personName(chance *rand.Rand) string {
	given := []string{"Amara", "Björn", "Chiara", "Dmitri", "Élodie", "Fatima", "Gonçalo", "Hana", "Ines", "Jürgen",
		"Kwame", "Łukasz", "Mei", "Nguyễn", "Oisín", "Priya", "Quentin", "Rania", "Søren", "Thandiwe",
		"Ulla", "Viktória", "Wren", "Ximena", "Yusuf", "Zoë", "李", "山田", "김", "مريم", "דניאל", "Ольга"}
	family := []string{"Abara", "Bergström", "Costa", "D'Angelo", "Eze", "Fjeld", "García-Núñez", "Horák", "Ivanova",
		"Jansen", "Kowalczyk", "Lindqvist", "Mbeki", "Nakamura", "O'Connell", "Petrović", "Quispe", "Rossi",
		"Şahin", "Tanaka", "Ueda", "van der Berg", "Weiß", "Xu", "Yılmaz", "Zhang", "小明", "花子", "민준",
		"الفاسي", "כהן", "Смирнова"}
	return pick(chance, given) + " " + pick(chance, family)
}

func companyNames() []string {
	return []string{"Northwind Robotics", "Café Numérique SARL", "株式会社みらい", "Zażółć Software sp. z o.o.",
		"Kestrel & Finch Ltd", "شركة النور", "Pixel 🚀 Labs", "Grüne Wolke GmbH", "한빛 데이터", "Ledger \"Quoted\" Inc.",
		"חברת הענן", "Tidepool\\Backslash LLC", "Семь Озёр", "Blåbær Analytics AS", "深海算法有限公司", "Família 👩‍👩‍👧 Digital"}
}

// A city is an address without its street.
type city struct{ name, state, postal, country, locale, taxFormat, taxPrefix string }

func cities() []city {
	return []city{
		{"Lyon", "", "69002", "FR", "fr-FR", "eu_vat", "FR"},
		{"Portland", "US-OR", "97209", "US", "en-US", "us_ein", ""},
		{"横浜市", "JP-14", "220-0012", "JP", "ja-JP", "jp_cn", ""},
		{"São Paulo", "BR-SP", "01310-100", "BR", "pt-BR", "br_cnpj", ""},
		{"München", "", "80331", "DE", "de-DE", "eu_vat", "DE"},
		{"Bengaluru", "IN-KA", "560001", "IN", "en-IN", "in_gst", "29"},
		{"Tromsø", "", "9008", "NO", "nb-NO", "no_vat", ""},
		{"القاهرة", "EG-C", "11511", "EG", "ar-EG", "eg_tin", ""},
		{"Toronto", "CA-ON", "M5V 2T6", "CA", "en-CA", "ca_bn", ""},
		{"תל אביב", "", "6100000", "IL", "he-IL", "il_vat", ""},
	}
}
