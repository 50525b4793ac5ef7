package polarsim

import (
	"cmp"
	"encoding/binary"
	"iter"
	"math/big"
	"net/http"
	"slices"
	"strconv"
	"time"

	"github.com/google/uuid"
)

const day = 24 * time.Hour

// A Demo is a server whose data is a function of the clock: who is there, and the
// state of each customer meter at a time, follow from the options alone. So
// nothing has to be remembered between two demos, and the past can be told.
//
// Customers are on a free tier, steady or bursty. A month begins with nothing
// consumed and the plan's credits; those who pay buy more at times. Three rows of
// the first organization are special: two are always about to run out, and one
// has a long decimal.
type Demo struct {
	*Server
	habits []*habit       // one for each row
	joined map[string]int // customers since the epoch, by organization
}

// NewDemo returns a demo that is at the present of o.Now whenever a request
// comes. The organizations have the rows that they ask for at the epoch, and grow
// slowly from there.
func NewDemo(o Options) *Demo {
	o.Epoch = cmp.Or(o.Epoch, time.Date(2026, time.January, 1, 0, 0, 0, 0, time.UTC))
	d := &Demo{Server: New(o), joined: make(map[string]int)}
	for _, o := range d.organizations {
		for r := range o.rows() {
			r.units, r.modified = unused(), time.Time{}
			d.habits = append(d.habits, d.habitOf(r))
		}
	}
	d.Advance(d.now())
	d.Before(func(int, *http.Request) { d.Advance(d.now()) })
	return d
}

// Advance brings everything to its state at a time, and sends webhooks about
// what changed.
func (d *Demo) Advance(at time.Time) {
	d.mu.Lock()
	defer d.mu.Unlock()
	at = precise(at)
	for _, o := range d.organizations {
		d.join(o, at)
		for _, c := range o.customers {
			if left := c.leaves(); c.edited == nil && !left.IsZero() && !left.After(at) {
				d.editCustomer(c, left, deleteCustomer)
			}
		}
	}
	for _, h := range d.habits {
		if !h.next.After(at) {
			clear(d.views)
			u := h.usage(at)
			d.set(h.row, h.text(u), u.modified)
			h.next = h.after(at)
		}
	}
}

// join adds the customers who have come since the epoch.
func (d *Demo) join(o *organization, at time.Time) {
	base := len(o.customers) - d.joined[o.Name]
	for pace := 4 * seededSpan / time.Duration(max(1, base)); ; d.joined[o.Name]++ {
		n := d.joined[o.Name] + 1
		joins := precise(d.options.Epoch.Add(time.Duration(n) * pace))
		if joins.After(at) {
			return
		}
		chance := newRand(d.options.Seed^binary.BigEndian.Uint64(o.ID[:8]), uint64(n))
		c := d.seedCustomer(o, joins, joins, 1+chance.IntN(len(o.meters)), chance)
		for _, r := range c.rows {
			d.habits = append(d.habits, d.habitOf(r))
		}
		d.announce(c, CustomerStateChanged)
	}
}

// leaves returns when a customer cancels, zero for most.
func (c *customer) leaves() time.Time {
	if c.seed%20 > 0 {
		return time.Time{}
	}
	return c.created.Add(time.Duration(30+c.seed/20%700) * day)
}

// A State is what a row was at a time.
type State struct {
	CustomerMeterID uuid.UUID
	SeenAt          time.Time
	ModifiedAt      time.Time // zero for null
	Units           Units
}

// Past yields the states that an organization's rows had between two times, row
// by row and oldest first: that at the beginning, or when the row was made, and
// then what someone saw who looked that often. The server waits while the loop
// runs.
func (d *Demo) Past(organizationID uuid.UUID, from, to time.Time, every time.Duration) iter.Seq[State] {
	return func(yield func(State) bool) {
		d.mu.Lock()
		defer d.mu.Unlock()
		for _, h := range d.habits {
			begin := precise(from)
			if h.created.After(begin) {
				begin = h.created
			}
			if h.meter.org.ID != organizationID || begin.After(to) {
				continue
			}
			u, seen := h.usage(begin), begin
			show := func() bool {
				return yield(State{CustomerMeterID: h.id, SeenAt: seen, ModifiedAt: u.modified, Units: h.text(u)})
			}
			for step := range h.steps(begin, to) {
				look := step.at.Truncate(every)
				if look.Before(step.at) {
					look = look.Add(every)
				}
				if look.After(seen) && !show() {
					return
				}
				seen = look
				u.take(step)
			}
			if !show() {
				return
			}
		}
	}
}

// A habit is how a customer uses a meter.
type habit struct {
	*row
	seed                    uint64
	free, bursty, low, long bool      // see Demo
	grant                   int64     // credited each month
	daily                   int64     // consumed on a usual day, in the meter's smallest units
	ended                   time.Time // zero: never
	next                    time.Time // when the row changes next
}

func (d *Demo) habitOf(r *row) *habit {
	kind, kinds := &r.meter.kind, r.customer.seed/7%10
	h := &habit{row: r, seed: r.customer.seed ^ binary.BigEndian.Uint64(r.meter.ID[8:]), ended: r.customer.leaves(),
		free: kinds < 4, bursty: kinds > 7, grant: kind.credit}
	chance := newRand(h.seed, 0)
	if !h.free {
		h.grant *= []int64{2, 5, 10, 20}[chance.IntN(4)]
	}
	usual := cmp.Or(h.grant, 500)
	percent := 20 + chance.Int64N(140) // of the grant, in a month: some need more than they have
	h.daily = usual * kind.scale() * percent / 3000
	switch customers := d.organizations[0].customers; {
	case len(customers) < 3:
	case r == customers[0].rows[0] || r == customers[1].rows[0]:
		h.low, h.ended = true, time.Time{}
		h.daily = max(1, h.daily/kind.scale()/24) * 24 * kind.scale() // so much each hour
	case r == customers[2].rows[0]:
		h.long, h.ended = true, time.Time{}
	case chance.IntN(10) < 3:
		h.ended = r.created // looked at, and never used
	}
	h.next = h.after(r.created)
	return h
}

// after returns when a row changes next, in the far future if it does not.
func (h *habit) after(at time.Time) time.Time {
	for s := range h.steps(at, at.AddDate(0, 2, 0)) { // a month begins between
		return s.at
	}
	return at.AddDate(1000, 0, 0)
}

// A step is one change of a row.
type step struct {
	at                 time.Time
	month              bool // begins: what was consumed and credited before is over
	credited, consumed int64
}

// steps yields what happens after one time and up to another, in order.
func (h *habit) steps(from, to time.Time) iter.Seq[step] {
	return func(yield func(step) bool) {
		if from.Before(h.created) {
			from = h.created
		}
		to = h.until(to)
		for date := from.Truncate(day); !date.After(to); date = date.Add(day) {
			for _, s := range h.on(date) {
				if s.at.After(from) && !s.at.After(to) && !yield(s) {
					return
				}
			}
		}
	}
}

// until returns a time, or when the customer ended if that was earlier.
func (h *habit) until(at time.Time) time.Time {
	if !h.ended.IsZero() && at.After(h.ended) {
		return h.ended
	}
	return at
}

// on returns what happens on a day, in order.
func (h *habit) on(date time.Time) []step {
	chance := newRand(h.seed, uint64(date.Unix()))
	uses, amount, credits := 6, h.daily*(85+chance.Int64N(30))/100, h.grant
	if h.low {
		uses, amount, credits = 24, h.daily, h.daily/h.meter.kind.scale()
	}
	var steps []step
	switch first := date.Day() == 1; {
	case h.low && date.Unix()/86400%2 == 0: // credits for two days are bought every other day
		steps = append(steps, step{at: date, month: first, credited: 2 * credits})
	case first:
		steps = append(steps, step{at: date, month: true, credited: credits})
	}
	if date.Equal(h.created.Truncate(day)) {
		steps = append(steps, step{at: h.created.Add(time.Microsecond), credited: h.grant})
	}
	switch weekday := date.Weekday(); {
	case h.low:
	case h.free:
		uses = chance.IntN(3)
	case h.bursty && chance.IntN(8) == 0:
		uses, amount = 10, 5*amount
	case h.bursty || weekday == time.Saturday || weekday == time.Sunday:
		uses, amount = 2, amount/5
	}
	if !h.low && !h.free && chance.IntN(25) == 0 {
		steps = append(steps, step{at: date.Add(someTime(chance, day)), credited: max(1, h.grant/2)})
	}
	for i := range uses {
		s := step{at: precise(date.Add((time.Duration(i)*day + someTime(chance, day)) / time.Duration(uses))), consumed: amount / int64(uses)}
		if s.consumed == 0 && chance.IntN(40) == 0 {
			s.consumed = 1
		}
		if s.consumed > 0 {
			steps = append(steps, s)
		}
	}
	slices.SortStableFunc(steps, func(a, b step) int { return a.at.Compare(b.at) })
	return steps
}

// A usage is what the steps of a month come to.
type usage struct {
	credited, consumed int64
	modified           time.Time
}

func (u *usage) take(s step) {
	if s.month {
		u.credited, u.consumed = 0, 0
	}
	u.credited += s.credited
	u.consumed += s.consumed
	u.modified = s.at
}

// usage returns what a row has come to by a time.
func (h *habit) usage(at time.Time) usage {
	last := h.until(at)
	var u usage
	for s := range h.steps(time.Date(last.Year(), last.Month(), 1, 0, 0, 0, 0, time.UTC).Add(-1), at) {
		u.take(s)
	}
	return u
}

// text writes a usage as it goes over the wire.
func (h *habit) text(u usage) Units {
	if u.modified.IsZero() {
		return unused()
	}
	kind := &h.meter.kind
	text := Units{Consumed: kind.number(u.consumed), Credited: strconv.FormatInt(u.credited, 10), Balance: kind.number(u.credited*kind.scale() - u.consumed)}
	if h.long {
		text = Units{Consumed: combine(text.Consumed, "0.000000000000000000000012345678", (*big.Rat).Add), Credited: text.Credited}.complete()
	}
	return text
}
