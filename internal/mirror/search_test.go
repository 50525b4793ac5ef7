package mirror

import (
	"testing"
	"time"

	"polarmirror/internal/polar"
)

// After rows came back below the walk's position, low is found again within a
// few pages, wherever it now lies in a list that rests.
func TestSearchFindsLowInAListThatRests(t *testing.T) {
	t.Parallel()
	at := func(i int) time.Time { return time.Unix(int64(i), 0).UTC() }
	const length = 70_000
	page := func(s span) *polar.Page {
		p := &polar.Page{TotalCount: length}
		for i := s.offset; i < min(s.end(), length); i++ {
			p.CustomerMeters = append(p.CustomerMeters, polar.CustomerMeter{CreatedAt: at(i)})
		}
		return p
	}
	failed, worst := 0, 0
	for _, size := range []int{25, 100} {
		for from := 0; from < 50; from++ {
			for _, away := range []int{150, 1234, 9_999, 28_421, 29_999} {
				low := 29_000 + 37*from + away
				p := proof{size: size, known: true, low: polar.Key{CreatedAt: at(low)}, offset: low - away}
				for !p.done && p.low.CreatedAt.Equal(at(low)) {
					s := p.next()
					if _, err := p.take(s, page(s)); err != nil {
						failed++
						t.Logf("size %d, low at %d, %d above where it was: %v (offset %d, under %d)", size, low, away, err, p.offset, p.under)
						break
					}
				}
				worst = max(worst, p.misses)
			}
		}
	}
	if failed > 0 || worst > 40 {
		t.Errorf("%d of 500 searches failed; worst cost %d pages", failed, worst)
	}
}
