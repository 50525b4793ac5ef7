package web

import (
	"context"
	"errors"
	"html/template"
	"math"
	"math/big"
	"strings"
	"time"

	"go.uber.org/zap"

	"polarmirror/internal/store"
)

const (
	panelDays   = 30 // shown in a panel
	panelPlaces = 5  // in a panel's rankings
	longest     = 26 // digits of a number that stands in one line
)

// A meterPanel is what one meter says, on a page with others.
type meterPanel struct {
	ID, Name, Path        string
	Organization, OrgPath string
	Unit                  string
	Archived              moment // Text is "never" if it is not
	Customers             int64
	Active, Overdrawn     int64
	Consumed, Credited    string // now, over all customers
	Use                   *use   // nil while it is being counted, or if nothing has been seen
	Largest, Lowest       []place
	Unranked              bool // the rankings are still being made
}

// A use is what was consumed and credited a day.
type use struct {
	Days               int // shown
	From, To           string
	Consumed, Credited string // in these days
	Resets             int64
	Partial            bool // older days are still being counted
	ConsumedChart      chartPair
	CreditedChart      chartPair
	Table              []dayRow
}

// A chartPair is a chart for wide and for narrow pages, and what it shows in
// words; Narrow is empty if one is enough.
type chartPair struct {
	Text         string
	Wide, Narrow template.HTML
}

type dayRow struct {
	Day                string
	Consumed, Credited string
	Resets, Changes    int64
}

// A place is a line of a ranking, with a bar to scale: it begins at From and is
// Width long, of 100.
type place struct {
	Who         who
	Value       string
	From, Width string
	Negative    bool
	Long        bool // the value may be broken over lines
}

// A who is how a customer is called, in one line, and what else is known.
type who struct {
	Path, Label, More string
	Deleted           bool
}

func whoIs(p store.Person) who {
	w := who{Path: customerPath(p.ID.String()), Deleted: p.Deleted}
	for _, text := range []string{p.Name, p.Email, p.ExternalID, p.ID.String()} {
		switch {
		case strings.TrimSpace(text) == "":
		case w.Label == "":
			w.Label = text
		case w.More == "":
			w.More = text
		}
	}
	return w
}

// usageOf is about the meters of an organization, at most limit of them.
func (p *Page) usageOf(ctx context.Context, o organizationRow, limit int) *usageSection {
	section := &usageSection{Organization: o.Name, Path: o.Path}
	all, _, err := p.meters.get(ctx, struct{}{})
	if err != nil {
		section.Note = p.notReady("meters", err)
		return section
	}
	var meters []store.Meter
	for _, m := range all {
		if m.OrganizationID == o.id {
			meters = append(meters, m)
		}
	}
	section.More = max(len(meters)-limit, 0)
	meters = meters[:min(len(meters), limit)]
	section.Meters = p.panels(ctx, meters)
	return section
}

// panels makes the panels of meters of one organization.
func (p *Page) panels(ctx context.Context, meters []store.Meter) []meterPanel {
	if len(meters) == 0 {
		return nil
	}
	days := p.usageDays(ctx, meters[0])
	ranks, _, err := p.rankings.get(ctx, rank(meters, panelPlaces))
	if err != nil {
		p.notReady("rankings", err)
	}
	var list []meterPanel
	for _, m := range meters {
		panel := p.panel(m)
		panel.Use = p.useOf(days, m, panelDays, small)
		panel.Largest, panel.Lowest, panel.Unranked = places(ranks.largest[m.ID], consumed), places(ranks.lowest[m.ID], balance), err != nil
		list = append(list, panel)
	}
	return list
}

func (p *Page) panel(m store.Meter) meterPanel {
	return meterPanel{
		ID: m.ID.String(), Name: m.Name, Path: meterPath(m.ID.String()),
		Organization: m.Organization, OrgPath: organizationPath(m.Organization), Unit: m.Unit,
		Archived: momentOf(p.now(), m.ArchivedAt), Customers: m.Customers, Active: m.Active, Overdrawn: m.Overdrawn,
		Consumed: grouped(m.Consumed), Credited: grouped(m.Credited),
	}
}

// usageDays is an organization's use as far as it has been counted.
func (p *Page) usageDays(ctx context.Context, m store.Meter) usage {
	days, _, err := p.usage.get(ctx, m.OrganizationID)
	if err != nil {
		p.notReady("usage", err)
		return p.bookOf(m.OrganizationID).snapshot()
	}
	return days
}

// notReady says why something is missing on a page that does without.
func (p *Page) notReady(what string, err error) string {
	if errors.Is(err, errNotReady) || errors.Is(err, context.Canceled) {
		return "Still being counted. Load the page again in a moment."
	}
	p.log.Warn("page incomplete", zap.String("missing", what), zap.Error(err))
	return "The database took too long to count this. It will be tried again."
}

// A size is how large a use is drawn.
type size struct {
	width, narrow, height int // narrow is 0 if one width is enough
	axes, table           bool
}

var (
	small = size{width: 420, height: 72}
	large = size{width: 1080, narrow: 360, height: 220, axes: true, table: true}
)

// useOf is the use of a meter in the last days; nil if there is none to show.
func (p *Page) useOf(u usage, m store.Meter, days int, as size) *use {
	list := u.on(m.ID, days)
	if len(list) == 0 {
		return nil
	}
	view := &use{Days: len(list), From: list[0].Day.Format("Jan 2"), To: list[len(list)-1].Day.Format("Jan 2"), Partial: u.Partial && len(list) < days}
	var labels, consumed, credited []string
	for _, d := range list {
		labels = append(labels, d.Day.Format("Jan 2"))
		consumed, credited = append(consumed, d.Consumed), append(credited, d.Credited)
		view.Resets += d.Resets
	}
	view.Consumed, view.Credited = grouped(sum(consumed)), grouped(sum(credited))
	over := " per day, " + plural(int64(len(list)), "day", "days") + " to " + list[len(list)-1].Day.Format(time.DateOnly)
	view.ConsumedChart = p.barPair("Units consumed"+over+": "+view.Consumed+" together", labels, consumed, as)
	view.CreditedChart = p.barPair("Units credited"+over+": "+view.Credited+" together", labels, credited, as)
	if as.table {
		for i := len(list) - 1; i >= 0; i-- {
			d := list[i]
			view.Table = append(view.Table, dayRow{d.Day.Format(time.DateOnly), grouped(d.Consumed), grouped(d.Credited), d.Resets, d.Changes})
		}
	}
	return view
}

func (p *Page) barPair(text string, labels, numbers []string, as size) chartPair {
	values := make([]float64, len(numbers))
	for i, n := range numbers {
		values[i] = approximate(n)
	}
	return p.pair(text, bars, drawing{Labels: labels, Values: values, Width: as.width, Height: as.height, Axes: as.axes}, as.narrow)
}

// pair draws a chart once for each width. A chart that can't be drawn is left
// out: its numbers stand beside it.
func (p *Page) pair(text string, draw func(drawing) (template.HTML, error), d drawing, narrow int) chartPair {
	pair := chartPair{Text: text}
	var err error
	if pair.Wide, err = draw(d); err == nil && narrow > 0 {
		d.Width = narrow
		pair.Narrow, err = draw(d)
	}
	if err != nil {
		p.log.Error("chart not drawn", zap.Error(err))
	}
	return pair
}

// sum adds decimal numbers exactly, with as many decimals as the longest has.
func sum(numbers []string) string {
	total, decimals := new(big.Rat), 0
	for _, n := range numbers {
		x, ok := new(big.Rat).SetString(n)
		if !ok {
			continue
		}
		total.Add(total, x)
		if _, fraction, found := strings.Cut(n, "."); found {
			decimals = max(decimals, len(fraction))
		}
	}
	text := total.FloatString(decimals)
	if decimals > 0 {
		text = strings.TrimSuffix(strings.TrimRight(text, "0"), ".")
	}
	return text
}

func consumed(r store.Ranked) string { return r.Consumed }
func balance(r store.Ranked) string  { return r.Balance }

// places scales a ranking: the bars share one zero and one unit.
func places(ranked []store.Ranked, value func(store.Ranked) string) []place {
	low, high := 0.0, 0.0
	for _, r := range ranked {
		x := approximate(value(r))
		low, high = min(low, x), max(high, x)
	}
	scale := 100 / max(high-low, math.SmallestNonzeroFloat64)
	if high == low {
		scale = 0
	}
	var list []place
	for _, r := range ranked {
		x := approximate(value(r))
		list = append(list, place{
			Who:      whoIs(r.Person),
			Value:    grouped(value(r)),
			From:     decimals2((min(x, 0) - low) * scale),
			Width:    decimals2(math.Abs(x) * scale),
			Negative: x < 0,
			Long:     len(value(r)) > longest,
		})
	}
	return list
}
