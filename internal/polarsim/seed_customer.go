package polarsim

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"time"
)

// seededCustomer makes up a customer from its seed alone.
func seededCustomer(c *customer) *Customer {
	chance := newRand(c.seed, 0)
	d := &Customer{
		ID: c.id, OrganizationID: c.org.ID, CreatedAt: timeOf(c.created),
		Type: "individual", EmailVerified: chance.IntN(4) > 0,
	}
	handle := fmt.Sprintf("%x", c.seed>>24)
	place := pick(chance, cities())
	d.Email = new("customer." + handle + "@example.com")
	d.Locale = &place.locale
	seedName(d, chance)
	seedBilling(d, place, chance)
	if chance.IntN(10) < 7 {
		d.ExternalID = new("usr_" + handle)
	}
	if chance.IntN(3) > 0 {
		at := d.CreatedAt.Add(time.Duration(chance.Int64N(5e15))).Truncate(time.Microsecond)
		d.FirstUserEventAt = at
	}
	if chance.IntN(3) == 0 {
		d.ModifiedAt = d.CreatedAt.Add(time.Duration(chance.Int64N(5e15))).Truncate(time.Microsecond)
	}
	d.AvatarURL = new(fmt.Sprintf("https://www.gravatar.com/avatar/%016x%016x?d=404", mix(c.seed), mix(c.seed+1)))
	d.Metadata = seedMetadata(handle, place, chance)
	return d
}

func seedName(d *Customer, chance *rand.Rand) {
	name := pick(chance, givenNames()) + " " + pick(chance, familyNames())
	switch chance.IntN(10) {
	case 0, 1, 2:
		d.Type = "team"
		name = pick(chance, companyNames())
		if chance.IntN(3) == 0 {
			d.Email = nil
		}
	case 3:
		return // never told its name
	case 4:
		name += " " + pick(chance, strings.Fields("🦊 🧑‍💻 ✨ 🇵🇱 ☕️"))
	}
	d.Name = &name
}

func seedBilling(d *Customer, place city, chance *rand.Rand) {
	if chance.IntN(5) == 0 {
		return // has not paid yet
	}
	d.BillingAddress = &Address{
		Line1:      fmt.Sprintf("%d %s", 1+chance.IntN(300), pick(chance, strings.Fields("Hauptstraße Market-Street 中央通り Rua-Nova شارع-النيل"))),
		PostalCode: place.postal, City: place.name, State: place.state, Country: place.country,
	}
	if chance.IntN(4) == 0 {
		d.BillingAddress.Line2 = fmt.Sprintf("Floor %d, c/o %s", 1+chance.IntN(30), pick(chance, familyNames()))
	}
	if d.Type == "team" || chance.IntN(6) == 0 {
		d.BillingName = d.Name
		d.TaxID = &TaxID{Number: fmt.Sprintf("%s%011d", place.taxPrefix, chance.Int64N(1e11)), Format: place.taxFormat}
	}
	if chance.IntN(2) == 0 {
		id := newID(chance)
		d.DefaultPaymentMethodID = &id
	}
}

// seedMetadata holds a value of each kind that metadata can have.
func seedMetadata(handle string, place city, chance *rand.Rand) string {
	plan := pick(chance, strings.Fields("free hobby pro business enterprise"))
	return fmt.Sprintf(`{"plan":"%s","workspace":"ws_%s","seats":%d,"discount":%.2f,"beta":%t,`+
		`"source":"%s","notes":"%s"}`,
		plan, handle, 1+chance.IntN(40), float64(chance.IntN(50))/100, chance.IntN(2) == 0,
		pick(chance, strings.Fields("signup import referral sales")),
		fmt.Sprintf("Introduced by %s in %s; renews every %d months. %s", pick(chance, givenNames()), place.name,
			1+chance.IntN(12), pick(chance, strings.Split("Prefers invoices.|VIP ⭐|Bitte per E-Mail.|長期のお客様|", "|"))))
}

func pick[T any](chance *rand.Rand, from []T) T { return from[chance.IntN(len(from))] }
