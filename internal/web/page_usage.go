package web

import (
	"cmp"
	"context"
	"fmt"
	"math"
	"net/http"
	"slices"
	"time"

	"github.com/google/uuid"

	"polarmirror/internal/store"
)

// lateCommits is how long after midnight a day no longer changes: the history only
// ever grows at its end, transactions are short, and the database's clock goes by
// ours, more or less.
const lateCommits = time.Hour

type dayOf struct {
	organization uuid.UUID
	at           time.Time // midnight UTC
}

// dayUsage is what was used on a day, by meter.
type dayUsage map[uuid.UUID]store.DailyUsage

// countUsage counts one day: many changes make a longer stretch too slow.
func countUsage(v *store.View, ctx context.Context, d dayOf) (dayUsage, error) {
	list, err := v.Usage(ctx, d.organization, d.at, d.at.AddDate(0, 0, 1))
	usage := dayUsage{}
	for _, u := range list {
		usage[u.MeterID] = u
	}
	return usage, err
}

// usageOn returns what was used on a day.
func (p *Page) usageOn(ctx context.Context, d dayOf) (dayUsage, error) {
	if time.Since(d.at) > day+lateCommits {
		return p.pastUsage.get(ctx, d)
	}
	return p.usage.get(ctx, d)
}

// A meterPanel is what a page shows of one meter.
type meterPanel struct {
	store.Meter
	Days               []store.DailyUsage // counted, the newest first
	Note               string             // why some are missing
	Consumed, Credited string             // in these days
	Resets             int64
	ConsumedChart      *chart
	CreditedChart      *chart
	Rankings           []ranking
}

// panel shows the last days of a meter and the first places of its ranking. What the
// database is slow to count is left out, with a note.
func (p *Page) panel(ctx context.Context, m store.Meter, days, places int) meterPanel {
	panel := meterPanel{Meter: m}
	today := midnight(time.Now())
	var consumed, credited []point
	var missing error
	for i := range days { // all, so that those that are not counted yet are asked for
		at := today.AddDate(0, 0, -i)
		counted, err := p.usageOn(ctx, dayOf{m.OrganizationID, at})
		if err != nil {
			missing = cmp.Or(missing, err)
			continue
		}
		u, ok := counted[m.ID]
		if !ok {
			u = store.DailyUsage{Day: at, Consumed: "0", Credited: "0"}
		}
		panel.Days = append(panel.Days, u)
		panel.Resets += u.Resets
		consumed, credited = append(consumed, point{at, u.Consumed}), append(credited, point{at, u.Credited})
	}
	panel.Note = p.incomplete("Usage of some days", missing)
	panel.Consumed, panel.ConsumedChart = usageChart("consumed", days, consumed)
	panel.Credited, panel.CreditedChart = usageChart("credited", days, credited)
	ranked, err := p.rankings.get(ctx, m.ID)
	note := p.incomplete("The ranking", err)
	panel.Rankings = []ranking{
		newRanking("Highest consumption", cmp.Or(note, "No customer has consumed any units."), ranked.Largest, places),
		newRanking("Lowest balance", cmp.Or(note, "No customer has used this meter."), ranked.Lowest, places),
	}
	return panel
}

func usageChart(kind string, days int, points []point) (total string, c *chart) {
	var values []string
	for _, p := range points {
		values = append(values, p.Value)
	}
	total = grouped(sum(values))
	c = bars(time.Now(), days, points)
	c.Kind, c.Text = kind, fmt.Sprintf("Units %s per day, last %d days: %s in total", kind, days, total)
	return total, c
}

// meterPlaces is how many customers the rankings on a meter's own page hold.
const meterPlaces = 20

// meter shows one meter.
func (p *Page) meter(r *http.Request) (*reply, error) {
	all, err := p.listMeters(r.Context())
	if err != nil {
		return nil, err
	}
	id, _ := uuid.Parse(r.PathValue("id")) // else no meter has it
	i := slices.IndexFunc(all, func(m store.Meter) bool { return m.ID == id })
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
	Rest         []store.Meter // those that are links only
	Note         string
}

// listMeters lists the meters of all organizations. They are counted anew as soon as
// another organization has been mirrored, since nobody believes the count until then.
func (p *Page) listMeters(ctx context.Context) ([]store.Meter, error) {
	all, _ := p.organizations.get(ctx, struct{}{})
	mirrored := 0
	for _, s := range all.status {
		if !s.LastFull.Finished.IsZero() {
			mirrored++
		}
	}
	return p.meters.get(ctx, mirrored)
}

// usageOf shows the meters of an organization, those beyond limit as links.
func (p *Page) usageOf(r *http.Request, o *organizationRow, limit int) *usageSection {
	days, periods := period(r, "usage")
	section := &usageSection{Organization: o.Organization, Periods: periods}
	ctx, cancel := context.WithTimeout(r.Context(), patience)
	defer cancel()
	all, err := p.listMeters(ctx)
	section.Note = p.incomplete("The list of meters", err)
	for _, m := range all {
		switch {
		case m.OrganizationID != o.OrganizationID:
		case len(section.Meters) < limit:
			section.Meters = append(section.Meters, p.panel(ctx, m, days, 5))
		default:
			section.Rest = append(section.Rest, m)
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
