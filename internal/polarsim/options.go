package polarsim

import (
	"time"

	"github.com/google/uuid"
)

// Options say what a [Server] holds and how it behaves. The zero value is a
// fast server without data, limits or faults.
type Options struct {
	// Seed decides all data and all chance. The same Options, calls and times
	// give the same bytes, as long as requests come one at a time.
	Seed uint64

	Organizations []Organization

	// RequestsPerMinute is the quota of each token, in windows that begin
	// with the first request. Polar grants 500, its sandbox 100. 0 means no limit.
	RequestsPerMinute int

	// ColdRequestsPerMinute is the quota of a token until its first answer, and
	// again after five minutes without one. Polar grants 60. 0 means no limit.
	ColdRequestsPerMinute int

	Latency time.Duration // before each answer

	// CostScale is the part of the time that a request costs Polar's database, see
	// [Server.Cost], that it really takes, besides Latency: 0 for none, 1 for all of it.
	CostScale float64

	// Now is the server's clock, used for the Date header, quotas and the times
	// of changes; nil means time.Now.
	Now func() time.Time

	// Epoch is the time at which the seeded data ends; it begins 18 months
	// earlier. Zero means the current hour by Now.
	Epoch time.Time

	// NullsSmallest sorts null below every value. Postgres does the opposite
	// unless told, and nothing in Polar's documentation says which it is.
	NullsSmallest bool
}

// An Organization is a seller at Polar with seeded customers and meters.
type Organization struct {
	Name  string
	ID    uuid.UUID // zero: derived from the seed and the name
	Token string    // its access token; empty: derived from the seed and the name

	CustomerMeters int // rows to seed
	Meters         int // meters to seed; 0: six, or fewer if there are few rows

	// EveryMeter seeds each customer with a row of every meter, as Polar has them
	// once it has computed all customers; otherwise they have one to all.
	EveryMeter bool

	// NeverModified is the fraction of seeded rows with a null modified_at;
	// 0 means three in ten, a negative value none.
	NeverModified float64
}

// String names the organization and leaves out the token.
func (o Organization) String() string { return o.Name + " " + o.ID.String() }

// A Token opens organizations.
type Token struct {
	Secret        string
	Organizations []uuid.UUID // those it sees; an access token of Polar's sees one
	Expired       bool        // expired or revoked: every request answers 401
	NoScope       bool        // lacks customer_meters:read: every request answers 403
}

// String hides the secret.
func (t Token) String() string { return "[redacted]" }

// GoString hides the secret.
func (t Token) GoString() string { return "[redacted]" }
