package polarsim

import (
	"hash/fnv"
	"math/rand/v2"
	"strconv"
	"strings"
	"time"

	"github.com/google/uuid"
)

const (
	seededSpan   = 18 * 30 * 24 * time.Hour // over which the seeded data was made
	defaultNever = 0.3                      // fraction of rows that never changed
	oddOneIn     = 150                      // how seldom quantities are hard ones
	largestBatch = 60                       // customers imported at one moment
)

func hashString(s string) uint64 {
	h := fnv.New64a()
	h.Write([]byte(s)) // a hash takes everything
	return h.Sum64()
}

// newID returns a version-4 UUID.
func newID(chance *rand.Rand) uuid.UUID {
	var id uuid.UUID
	a, b := chance.Uint64(), chance.Uint64()
	for i := range 8 {
		id[i], id[8+i] = byte(a>>(8*i)), byte(b>>(8*i))
	}
	id[6] = id[6]&0x0f | 0x40
	id[8] = id[8]&0x3f | 0x80
	return id
}

// seed fills an organization. Customers come one by one or in imports that
// share one created_at, and own one to all of the meters.
func (s *Server) seed(o *organization, chance *rand.Rand) {
	count := o.Meters
	if count == 0 {
		count = min(6, max(1, o.CustomerMeters/2))
	}
	end := micros(s.options.Epoch)
	begin := end - seededSpan.Microseconds()
	kinds := meterKinds()
	for i := range count {
		kind := *kinds[i%len(kinds)]
		if i >= len(kinds) {
			kind.name += " " + strconv.Itoa(i/len(kinds)+1)
		}
		s.addMeter(o, &kind, begin-int64(chance.IntN(1_000_000_000)), chance)
	}
	left := o.CustomerMeters
	for left > 0 {
		batch := 1
		if chance.IntN(8) == 0 {
			batch += chance.IntN(largestBatch)
		}
		at := begin + chance.Int64N(end-begin)
		for ; batch > 0 && left > 0; batch-- {
			rows := 1 + chance.IntN(count)
			if o.EveryMeter {
				rows = count
			}
			left -= s.seedCustomer(o, at, end, min(left, rows), chance)
		}
	}
}

func (s *Server) seedCustomer(o *organization, at, end int64, rows int, chance *rand.Rand) int {
	c := s.addCustomer(o, at, chance)
	first := chance.IntN(len(o.meters))
	created := at
	for i := range rows {
		if chance.IntN(3) == 0 { // this meter was looked at later
			created = min(end, created+chance.Int64N(40*24*3_600_000_000))
		}
		m := o.meters[(first+i)%len(o.meters)]
		r := s.newRow(c, m, created, chance)
		r.units, r.modified = seededUnits(o, m.kind, created, end, chance)
		s.attach(o, r)
	}
	return rows
}

func (s *Server) addMeter(o *organization, kind *meterKind, at int64, chance *rand.Rand) *meter {
	m := &meter{id: newID(chance), org: o, kind: kind}
	m.doc = Meter{
		ID: m.id, OrganizationID: o.ID, CreatedAt: timeOf(at), Name: kind.name, Unit: kind.unit,
		Filter: kind.filter, Aggregation: kind.aggregation, Metadata: `{"tier":"standard"}`,
	}
	if kind.label != "" {
		m.doc.CustomLabel, m.doc.CustomMultiplier = &kind.label, &kind.multiplier
	}
	o.meters = append(o.meters, m)
	s.meters[m.id] = m
	return m
}

func (s *Server) addCustomer(o *organization, at int64, chance *rand.Rand) *customer {
	c := &customer{id: newID(chance), org: o, seed: chance.Uint64(), created: at}
	o.customers = append(o.customers, c)
	s.customers[c.id] = c
	s.announce(c, CustomerCreated, CustomerStateChanged)
	return c
}

// newRow returns a row as Polar makes it: without units, never modified. It is
// not among its organization's rows yet.
func (s *Server) newRow(c *customer, m *meter, at int64, chance *rand.Rand) *row {
	s.made++
	return &row{seq: s.made, id: newID(chance), customer: c, meter: m, created: at, modified: never,
		units: Units{Consumed: "0", Credited: "0", Balance: "0"}, place: -1}
}

func (s *Server) attach(o *organization, r *row) {
	o.attach(r)
	s.rows[r.id] = r
}

func seededUnits(o *organization, kind *meterKind, created, end int64, chance *rand.Rand) (Units, int64) {
	fraction := o.NeverModified
	if fraction == 0 {
		fraction = defaultNever
	}
	if chance.Float64() < fraction || created >= end {
		return Units{Consumed: "0", Credited: "0", Balance: "0"}, never
	}
	u := Units{Consumed: someUnits(kind, chance), Credited: "0"}
	if kind.credit > 0 && chance.IntN(5) < 3 {
		u.Credited = strconv.FormatInt(kind.credit<<chance.IntN(8), 10)
	}
	if chance.IntN(oddOneIn) == 0 {
		u.Consumed = oddConsumption()[chance.IntN(len(oddConsumption()))]
	}
	if chance.IntN(oddOneIn) == 0 {
		u.Credited = oddCredits()[chance.IntN(len(oddCredits()))]
	}
	u.Balance = mustDifference(u.Credited, u.Consumed)
	age := (end - created) >> chance.IntN(12) // most changed not long ago
	modified := end - chance.Int64N(max(1, age))
	if chance.IntN(10) == 0 { // a billing run touched many at one moment
		day := (24 * time.Hour).Microseconds()
		modified = max(created+1, modified/day*day)
	}
	return u, modified
}

// someUnits returns a consumption whose magnitude is as likely to be small as
// large, so that few customers make most of the use.
func someUnits(kind *meterKind, chance *rand.Rand) string {
	n := chance.Uint64() >> (64 - 1 - chance.IntN(kind.bits))
	text := placePoint(strconv.FormatUint(n, 10), kind.places)
	if kind.places > 0 {
		text = strings.TrimSuffix(strings.TrimRight(text, "0"), ".")
	}
	if kind.pointZero && !strings.Contains(text, ".") {
		text += ".0"
	}
	return text
}

// mustDifference is for numbers of this package's own making.
func mustDifference(credited, consumed string) string {
	balance, err := difference(credited, consumed)
	if err != nil {
		panic("polarsim: " + err.Error())
	}
	return balance
}
