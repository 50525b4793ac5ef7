package mirror

import (
	"hash/maphash"
	"time"

	"github.com/robfig/cron/v3"
)

// mostSpread is the longest a replica waits after a slot before it comes to an
// organization.
const mostSpread = 2 * time.Second

// A spread gives each organization a moment of its own after its slots, another
// one in each replica. So the organizations of one replica don't all begin at
// the full second, and of several replicas the same one comes first to an
// organization each time, while the others come to find the slot answered. Should
// that one be gone, or busy, the next one is there in a moment.
type spread struct{ seed maphash.Seed }

func newSpread() spread { return spread{maphash.MakeSeed()} }

// after returns how long after slot this replica comes to the organization: up
// to a tenth of the time to the next slot.
func (s spread) after(slot time.Time, schedule cron.Schedule, organization string) time.Duration {
	if slot.IsZero() {
		return 0
	}
	window := mostSpread
	if next := schedule.Next(slot); !next.IsZero() {
		window = min(window, next.Sub(slot)/10)
	}
	share := float64(maphash.String(s.seed, organization)>>11) / (1 << 53)
	return time.Duration(share * float64(window))
}
