package web

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"math"
	"net/http"
	"slices"
	"sync"
	"time"

	"github.com/google/uuid"

	"polarmirror/internal/store"
)

// settleTime is how long after midnight the last transactions of a day have been
// committed. What is counted after that never changes: the history only ever grows
// at its end.
const settleTime = 15 * time.Minute

// A usageCache keeps what was used on each day.
type usageCache struct {
	mu   sync.Mutex
	days map[dayOf]usageDay
}

type dayOf struct {
	organization uuid.UUID
	at           time.Time // midnight UTC
}

type usageDay struct {
	settled bool // it will not change
	meters  map[uuid.UUID]store.DailyUsage
}

// countUsage counts the days of an organization that are missing or may have
// changed, the newest first. What has been counted is shown while it goes on.
func (p *Page) countUsage(ctx context.Context, organization uuid.UUID) (struct{}, error) {
	now, err := look(ctx, p, p.heavy, func(ctx context.Context, v *store.View) (time.Time, error) { return v.Now(ctx) })
	if err != nil {
		return struct{}{}, err
	}
	return struct{}{}, p.usage.count(organization, now, func(from, to time.Time) ([]store.DailyUsage, bool, error) {
		began := p.now()
		list, err := look(ctx, p, p.heavy, func(ctx context.Context, v *store.View) ([]store.DailyUsage, error) {
			return v.Usage(ctx, organization, from, to)
		})
		return list, p.now().Sub(began) > time.Second, err
	})
}

// count reads the days that are missing or not settled at now: more days at a time
// unless that is slow.
func (c *usageCache) count(organization uuid.UUID, now time.Time, read func(from, to time.Time) (list []store.DailyUsage, slow bool, err error)) error {
	tomorrow := midnight(now).AddDate(0, 0, 1)
	oldest := tomorrow.AddDate(0, 0, -maxDays)
	step := 1
	for to := tomorrow; to.After(oldest); {
		last := to.AddDate(0, 0, -1)
		if c.day(organization, last).settled {
			to = last
			continue
		}
		from := to.AddDate(0, 0, -step)
		if from.Before(oldest) {
			from = oldest
		}
		list, slow, err := read(from, to)
		if err != nil {
			return err
		}
		c.keep(organization, list, from, to, now)
		step *= 2
		if slow {
			step = 1
		}
		to = from
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	maps.DeleteFunc(c.days, func(d dayOf, _ usageDay) bool { return d.at.Before(oldest) })
	return nil
}

func (c *usageCache) keep(organization uuid.UUID, list []store.DailyUsage, from, to, now time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.days == nil {
		c.days = map[dayOf]usageDay{}
	}
	for at := from; at.Before(to); at = at.AddDate(0, 0, 1) {
		settled := now.After(at.AddDate(0, 0, 1).Add(settleTime))
		c.days[dayOf{organization, at}] = usageDay{settled, map[uuid.UUID]store.DailyUsage{}}
	}
	for _, u := range list {
		c.days[dayOf{organization, u.Day}].meters[u.MeterID] = u
	}
}

// day is what has been counted of a day; its meters are nil if nothing has.
func (c *usageCache) day(organization uuid.UUID, at time.Time) usageDay {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.days[dayOf{organization, at}]
}

// A meterPanel is what a page shows of one meter.
type meterPanel struct {
	store.Meter
	Days               []store.DailyUsage // counted, the newest first
	Note               string             // why older ones are missing
	Consumed, Credited string             // in these days
	Resets             int64
	ConsumedChart      *chart
	CreditedChart      *chart
	Rankings           []ranking
}

// panel shows the last days of a meter and the first places of its ranking. What the
// database is slow to count is left out, with a note.
func (p *Page) panel(ctx context.Context, m store.Meter, days, places int) meterPanel {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	panel := meterPanel{Meter: m}
	_, err := p.counted.get(ctx, m.OrganizationID)
	now := p.now()
	var consumed, credited []point
	for i := range days {
		at := midnight(now).AddDate(0, 0, -i)
		counted := p.usage.day(m.OrganizationID, at)
		if counted.meters == nil && i == 0 {
			continue // a day that has just begun
		}
		if counted.meters == nil {
			panel.Note = p.incomplete("Usage of older days", cmp.Or(err, errNotReady))
			break
		}
		u, ok := counted.meters[m.ID]
		if !ok {
			u = store.DailyUsage{Day: at, Consumed: "0", Credited: "0"}
		}
		panel.Days = append(panel.Days, u)
		panel.Resets += u.Resets
		consumed, credited = append(consumed, point{at, u.Consumed}), append(credited, point{at, u.Credited})
	}
	panel.Consumed, panel.ConsumedChart = p.usageChart("consumed", days, consumed)
	panel.Credited, panel.CreditedChart = p.usageChart("credited", days, credited)
	ranked, err := p.rankings.get(ctx, m.ID)
	note := p.incomplete("The ranking", err)
	panel.Rankings = []ranking{
		newRanking("Highest consumption", cmp.Or(note, "No customer has consumed any units."), ranked.Largest, places),
		newRanking("Lowest balance", cmp.Or(note, "No customer has used this meter."), ranked.Lowest, places),
	}
	return panel
}

func (p *Page) usageChart(kind string, days int, points []point) (total string, c *chart) {
	var values []string
	for _, p := range points {
		values = append(values, p.Value)
	}
	total = grouped(sum(values))
	c = bars(p.now(), days, points)
	c.Kind, c.Text = kind, fmt.Sprintf("Units %s per day, last %d days: %s in total", kind, days, total)
	return total, c
}

// meterPlaces is how many customers the rankings on a meter's own page hold.
const meterPlaces = 20

// meter shows one meter.
func (p *Page) meter(r *http.Request) (*reply, error) {
	all, err := p.meters.get(r.Context(), struct{}{})
	if err != nil {
		return nil, err
	}
	i := slices.IndexFunc(all, func(m store.Meter) bool { return m.ID.String() == r.PathValue("id") })
	if i < 0 {
		return nil, errNotFound
	}
	days, choices := period(r, "usage")
	body := struct {
		meterPanel
		Periods []choice
	}{p.panel(r.Context(), all[i], days, meterPlaces), choices}
	return &reply{view: "meter", Title: body.Name + " of " + body.Organization, Place: "organization", Body: body}, nil
}

// A usageSection is what the meters of an organization say.
type usageSection struct {
	Organization string
	Others       []choice // the organizations to choose from, this one too; empty if it is alone
	Periods      []choice
	Meters       []meterPanel
	More         int64 // meters that are left out here
	Note         string
}

// usageOf shows at most limit meters of an organization.
func (p *Page) usageOf(r *http.Request, o *organizationRow, limit int) *usageSection {
	days, periods := period(r, "usage")
	section := &usageSection{Organization: o.Organization, Periods: periods}
	ctx, cancel := context.WithTimeout(r.Context(), patience)
	defer cancel()
	all, err := p.meters.get(ctx, struct{}{})
	section.Note = p.incomplete("The list of meters", err)
	for _, m := range all {
		switch {
		case m.OrganizationID != o.OrganizationID:
		case len(section.Meters) < limit:
			section.Meters = append(section.Meters, p.panel(ctx, m, days, 5))
		default:
			section.More++
		}
	}
	return section
}

// A ranking is a list of customers with a value each.
type ranking struct {
	Caption string
	None    string // what stands there if there are none
	Places  []place
}

// A place is a line of a ranking, with a bar to scale: it begins at From and is
// Width long, of 100.
type place struct {
	store.Ranked
	From, Width string
	Negative    bool
}

// newRanking shows the first places of a ranking. The bars share one zero and one
// unit.
func newRanking(caption, none string, ranked []store.Ranked, places int) ranking {
	list := ranking{Caption: caption, None: none}
	ranked = ranked[:min(len(ranked), places)]
	low, high := 0.0, 0.0
	for _, r := range ranked {
		x := approximate(r.Value)
		low, high = min(low, x), max(high, x)
	}
	unit := cmp.Or((high-low)/100, 1)
	for _, r := range ranked {
		x := approximate(r.Value)
		list.Places = append(list.Places, place{r, coordinate((min(x, 0) - low) / unit), coordinate(math.Abs(x) / unit), x < 0})
	}
	return list
}
