package polarsim

import (
	"cmp"
	"encoding/binary"
	"fmt"
	"math"
	"math/rand/v2"
	"strconv"
	"strings"
	"time"

	"github.com/google/uuid"
)

const (
	seededSpan    = 18 * 30 * 24 * time.Hour // over which the seeded data was made
	defaultNever  = 0.3                      // fraction of rows that never changed
	oddOneIn      = 150                      // how seldom quantities are hard ones
	largestImport = 60                       // customers imported at one moment
)

// newID returns a version-4 UUID.
func newID(chance *rand.Rand) uuid.UUID {
	var id uuid.UUID
	binary.LittleEndian.PutUint64(id[:8], chance.Uint64())
	binary.LittleEndian.PutUint64(id[8:], chance.Uint64())
	id[6] = id[6]&0x0f | 0x40
	id[8] = id[8]&0x3f | 0x80
	return id
}

func pick[T any](chance *rand.Rand, from []T) T { return from[chance.IntN(len(from))] }

// someTime is less than most, in microseconds.
func someTime(chance *rand.Rand, most time.Duration) time.Duration {
	return time.Duration(chance.Int64N(max(1, most.Microseconds()))) * time.Microsecond
}

// seed fills an organization. Customers come one by one or in imports that
// share one created_at, and own one to all of the meters.
func (s *Server) seed(o *organization, chance *rand.Rand) {
	meters := o.Meters
	if meters == 0 {
		meters = min(6, max(1, o.CustomerMeters/2))
	}
	end := precise(s.options.Epoch)
	begin := end.Add(-seededSpan)
	for range meters {
		s.addMeter(o, "", begin.Add(-someTime(chance, time.Hour)), chance)
	}
	for left := o.CustomerMeters; left > 0; {
		batch := 1
		if chance.IntN(8) == 0 {
			batch += chance.IntN(largestImport)
		}
		at := begin.Add(someTime(chance, seededSpan))
		for ; batch > 0 && left > 0; batch-- {
			rows := 1 + chance.IntN(meters)
			if o.EveryMeter {
				rows = meters
			}
			rows = min(rows, left)
			left -= rows
			s.seedCustomer(o, at, end, rows, chance)
		}
	}
}

// seedCustomer makes a customer and rows, none later than end.
func (s *Server) seedCustomer(o *organization, at, end time.Time, rows int, chance *rand.Rand) *customer {
	c := s.addCustomer(o, at, chance)
	first, created := chance.IntN(len(o.meters)), at
	for i := range rows {
		if chance.IntN(3) == 0 { // this meter was looked at later
			if created = created.Add(someTime(chance, 40*24*time.Hour)); created.After(end) {
				created = end
			}
		}
		r := &row{id: newID(chance), customer: c, meter: o.meters[(first+i)%len(o.meters)], created: created}
		r.units, r.modified = seededUnits(o, &r.meter.kind, created, end, chance)
		s.attach(r)
	}
	return c
}

func seededUnits(o *organization, kind *meterKind, created, end time.Time, chance *rand.Rand) (Units, time.Time) {
	if chance.Float64() < cmp.Or(o.NeverModified, defaultNever) || !created.Before(end) {
		return unused(), time.Time{}
	}
	// Magnitudes are as likely to be small as large: few customers make most of the use.
	consumed, credited := int64(chance.Uint64()>>(64-1-chance.IntN(kind.bits))), int64(0)
	if kind.credit > 0 && chance.IntN(5) < 3 {
		credited = kind.credit << chance.IntN(8)
	}
	u := Units{Consumed: kind.number(consumed), Credited: strconv.FormatInt(credited, 10),
		Balance: kind.number(credited*kind.scale() - consumed)}
	odd := chance.IntN(oddOneIn)
	switch odd {
	case 0: // what a binary float can't hold or writes oddly
		u.Consumed = pick(chance, strings.Fields("0.1 1e-7 12345678901234.123456 0.30000000000000004 1e+21 -0.5 2.50 9007199254740993"))
	case 1:
		u.Credited = pick(chance, strings.Fields("9223372036854775807 9223372036854775806 9007199254740993 4611686018427387905"))
	}
	if odd < 2 {
		u.Balance = ""
		u = u.complete()
	}
	modified := end.Add(-someTime(chance, end.Sub(created)>>chance.IntN(12))) // most changed not long ago
	if chance.IntN(10) == 0 {                                                 // a billing run touched many at one moment
		if modified = modified.Truncate(24 * time.Hour); !modified.After(created) {
			modified = created.Add(time.Microsecond)
		}
	}
	return u, modified
}

// scale is how many of the smallest unit make one.
func (k *meterKind) scale() int64 { return int64(math.Pow10(k.places)) }

// number writes a number of smallest units.
func (k *meterKind) number(n int64) string {
	sign := ""
	if n < 0 {
		sign, n = "-", -n
	}
	text := fmt.Sprintf("%s%d.%0*d", sign, n/k.scale(), k.places, n%k.scale())
	text = strings.TrimRight(text, "0")
	switch {
	case !strings.HasSuffix(text, "."):
		return text
	case k.pointZero:
		return text + "0"
	}
	return strings.TrimSuffix(text, ".")
}

// seededCustomer makes up a customer from its seed alone.
func seededCustomer(c *customer) *Customer {
	chance := newRand(c.seed, 0)
	likely := func(percent int) bool { return chance.IntN(100) < percent }
	some := func(text string) *string {
		if text == "" {
			return nil
		}
		return &text
	}
	handle := fmt.Sprintf("%x", c.seed>>24)
	city := pick(chance, cities())
	d := &Customer{
		ID: c.id, OrganizationID: c.org.ID, CreatedAt: Time{c.created}, Type: "individual", EmailVerified: likely(75), Locale: &city.locale,
		AvatarURL: new(fmt.Sprintf("https://www.gravatar.com/avatar/%016x%016x?d=404", chance.Uint64(), chance.Uint64())),
	}
	name := personName(chance)
	if likely(30) {
		d.Type, name = "team", pick(chance, companyNames())
	}
	if likely(10) {
		name += " " + pick(chance, strings.Fields("🦊 🧑‍💻 ✨ 🇵🇱 ☕️"))
	}
	if likely(90) {
		d.Name = &name
	}
	if d.Type != "team" || likely(67) { // only a team can do without
		d.Email = new("customer." + handle + "@example.com")
	}
	if likely(70) {
		d.ExternalID = new("usr_" + handle)
	}
	if likely(67) {
		d.FirstUserEventAt = Time{c.created.Add(someTime(chance, 60*24*time.Hour))}
	}
	if likely(33) {
		d.ModifiedAt = Time{c.created.Add(someTime(chance, 60*24*time.Hour))}
	}
	if likely(80) { // has paid
		d.BillingAddress = &Address{PostalCode: &city.postal, City: &city.name, State: some(city.state), Country: city.country,
			Line1: new(fmt.Sprintf("%d %s", 1+chance.IntN(300), pick(chance, strings.Fields("Hauptstraße Market-Street 中央通り Rua-Nova شارع-النيل"))))}
		if likely(25) {
			d.BillingAddress.Line2 = new(fmt.Sprintf("Floor %d, c/o %s", 1+chance.IntN(30), personName(chance)))
		}
		if d.Type == "team" || likely(17) {
			d.BillingName = d.Name
			d.TaxID = &TaxID{Number: fmt.Sprintf("%s%011d", city.taxPrefix, chance.Int64N(1e11)), Format: city.taxFormat}
		}
		if likely(50) {
			d.DefaultPaymentMethodID = new(newID(chance))
		}
	}
	// A value of each kind that metadata can have.
	d.Metadata = Literal(fmt.Sprintf(`{"plan":"%s","workspace":"ws_%s","seats":%d,"discount":%.2f,"beta":%t,"source":"%s",`+
		`"notes":"Introduced by %s in %s; renews every %d months. %s"}`,
		pick(chance, strings.Fields("free hobby pro business enterprise")), handle, 1+chance.IntN(40), float64(chance.IntN(50))/100, likely(50),
		pick(chance, strings.Fields("signup import referral sales")), personName(chance), city.name, 1+chance.IntN(12),
		pick(chance, strings.Split("Prefers invoices.|VIP ⭐|Bitte per E-Mail.|長期のお客様|", "|"))))
	return d
}
