package web

import (
	"context"
	"sync"
	"time"

	"github.com/google/uuid"

	"polarmirror/internal/store"
)

const (
	day = 24 * time.Hour
	// usageDays is how far back use is counted.
	usageDays = 90
	// usageStep is how many days are counted at a time, at most: what has been
	// counted is shown while the rest goes on. Where that takes too long, it is
	// fewer.
	usageStep = 8
	// settled is how long after midnight the last transactions of a day have
	// been committed. What was counted after that never changes.
	settled = 15 * time.Minute
)

// A book holds one organization's use a day. Past days are counted once: the
// history only ever grows at its end.
type book struct {
	mu      sync.Mutex
	began   time.Time // first day of the history
	from    time.Time // first day that has been counted; every later one has been too
	to      time.Time // today, when it was last counted
	days    map[time.Time]map[uuid.UUID]store.DailyUsage
	settled time.Time // days before it need no second look
	slow    int       // how often the step had to be halved
}

// usage is what a book holds at a moment.
type usage struct {
	From, To time.Time // first and last day counted; zero if none was
	Partial  bool      // older days are still being counted
	days     map[time.Time]map[uuid.UUID]store.DailyUsage
}

// on returns the days of one meter, days without a change as zeros: at most
// the last so many.
func (u *usage) on(meter uuid.UUID, days int) []store.DailyUsage {
	if u.To.IsZero() {
		return nil
	}
	first := u.To.AddDate(0, 0, 1-days)
	if first.Before(u.From) {
		first = u.From
	}
	var list []store.DailyUsage
	for at := first; !at.After(u.To); at = at.AddDate(0, 0, 1) {
		use, ok := u.days[at][meter]
		if !ok {
			use = store.DailyUsage{MeterID: meter, Day: at, Consumed: "0", Credited: "0"}
		}
		list = append(list, use)
	}
	return list
}

func midnight(t time.Time) time.Time { return t.UTC().Truncate(day) }

// fillBook counts what is missing in an organization's book, the newest days
// first.
func (p *Page) fillBook(ctx context.Context, organization uuid.UUID) (usage, error) {
	b := p.bookOf(organization)
	for {
		again := false
		err := p.look(ctx, p.heavy, heavyLimit, func(ctx context.Context, v *store.View) error {
			began, now, err := v.HistoryBegan(ctx, organization)
			if err != nil || began.IsZero() {
				return err
			}
			from, to := b.plan(midnight(began), midnight(now))
			if from.IsZero() {
				return nil
			}
			list, err := v.Usage(ctx, organization, from, to)
			if err != nil {
				return err
			}
			again = b.enter(list, from, to, now)
			return nil
		})
		if err != nil {
			b.slower()
		}
		if err != nil || !again {
			return b.snapshot(), err
		}
	}
}

func (p *Page) bookOf(organization uuid.UUID) *book {
	p.mu.Lock()
	defer p.mu.Unlock()
	b, ok := p.books[organization]
	if !ok {
		b = &book{}
		p.books[organization] = b
	}
	return b
}

func (b *book) step() int { return max(usageStep>>b.slow, 1) }

func (b *book) slower() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.slow = min(b.slow+1, 3)
}

// plan returns which days to count next, to excluded; a zero from if all have
// been counted. The days that are not settled are first, and once.
func (b *book) plan(began, today time.Time) (from, to time.Time) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.began = began
	oldest := today.AddDate(0, 0, 1-usageDays)
	if oldest.Before(began) {
		oldest = began
	}
	if b.from.IsZero() || b.to.Before(today.AddDate(0, 0, 1-usageDays)) {
		b.from, b.days, b.settled = time.Time{}, map[time.Time]map[uuid.UUID]store.DailyUsage{}, time.Time{}
		from = today.AddDate(0, 0, 1-b.step())
		return laterOf(from, oldest), today.AddDate(0, 0, 1)
	}
	if !b.to.IsZero() && b.from.After(oldest) {
		return laterOf(b.from.AddDate(0, 0, -b.step()), oldest), b.from
	}
	return b.settled, today.AddDate(0, 0, 1)
}

// enter books what was counted from from until before to, and reports whether
// older days are missing.
func (b *book) enter(list []store.DailyUsage, from, to, now time.Time) (more bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for at := from; at.Before(to); at = at.AddDate(0, 0, 1) {
		delete(b.days, at)
	}
	for _, use := range list {
		if b.days[use.Day] == nil {
			b.days[use.Day] = map[uuid.UUID]store.DailyUsage{}
		}
		b.days[use.Day][use.MeterID] = use
	}
	if b.from.IsZero() || from.Before(b.from) {
		b.from = from
	}
	today := midnight(now)
	if to.After(today) {
		b.to = today
		b.settled = midnight(now.Add(-settled))
	}
	oldest := laterOf(today.AddDate(0, 0, 1-usageDays), b.began)
	for at := range b.days {
		if at.Before(oldest) {
			delete(b.days, at)
		}
	}
	b.from = laterOf(b.from, oldest)
	return b.from.After(oldest)
}

func (b *book) snapshot() usage {
	b.mu.Lock()
	defer b.mu.Unlock()
	u := usage{From: b.from, To: b.to, days: make(map[time.Time]map[uuid.UUID]store.DailyUsage, len(b.days))}
	for at, meters := range b.days {
		u.days[at] = meters // never written to again: enter replaces them
	}
	u.Partial = b.to.IsZero() || b.from.After(laterOf(b.to.AddDate(0, 0, 1-usageDays), b.began))
	return u
}

func laterOf(a, b time.Time) time.Time {
	if b.After(a) {
		return b
	}
	return a
}
