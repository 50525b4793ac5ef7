package polarsim

import (
	"fmt"
	"iter"
	"math/big"
	"slices"
	"time"

	"github.com/google/uuid"
)

// Units are the three quantities of a customer meter, as the literal JSON
// numbers that go over the wire.
type Units struct {
	Consumed string // may be any decimal
	Credited string // a 64-bit integer, if the server behaves
	Balance  string // credited less consumed, if the server behaves; can be negative
}

// complete calculates an empty balance.
func (u Units) complete() Units {
	if u.Balance == "" {
		u.Balance = combine(u.Credited, u.Consumed, (*big.Rat).Sub)
	}
	return u
}

// unused is what Polar begins with.
func unused() Units { return Units{Consumed: "0", Credited: "0", Balance: "0"} }

// number reads a JSON number exactly. It panics if text is none, as only a test can
// have put it in.
func number(text string) *big.Rat {
	n, ok := new(big.Rat).SetString(text)
	if !ok {
		panic(fmt.Sprintf("polarsim: %.40q is no number", text))
	}
	return n
}

// combine returns the exact result of an operation on two JSON numbers, without
// an exponent.
func combine(a, b string, operation func(z, x, y *big.Rat) *big.Rat) string {
	z := operation(new(big.Rat), number(a), number(b))
	places, _ := z.FloatPrec() // sums and differences of decimals end
	return z.FloatString(places)
}

// A row is one customer meter.
type row struct {
	id       uuid.UUID
	customer *customer
	meter    *meter
	created  time.Time
	modified time.Time // zero for null
	units    Units
	raw      *string // sent instead of the row
	hidden   bool    // from every list
	json     string  // as it goes over the wire; "": see load
}

// An organization owns customers and meters; the rows are the customers'.
type organization struct {
	Organization
	customers []*customer
	meters    []*meter
}

func (o *organization) rows() iter.Seq[*row] {
	return func(yield func(*row) bool) {
		for _, c := range o.customers {
			for _, r := range c.rows {
				if !yield(r) {
					return
				}
			}
		}
	}
}

// A customer keeps only its seed until someone looks at it, so that a million
// rows are made in about a second.
type customer struct {
	id      uuid.UUID
	org     *organization
	seed    uint64
	created time.Time
	rows    []*row
	edited  *Customer // nil while it is as the seed has it

	json             []byte // never changed in place; nil: see load
	name, externalID *string
}

// doc returns what the customer looks like; the caller may change it.
func (c *customer) doc() *Customer {
	if c.edited == nil {
		return seededCustomer(c)
	}
	doc := *c.edited
	return &doc
}

// load renders the customer if that is still to be done.
func (c *customer) load() *customer {
	if c.json == nil {
		doc := c.doc()
		c.name, c.externalID, c.json = doc.Name, doc.ExternalID, marshal(doc)
	}
	return c
}

func (c *customer) has(m *meter) bool {
	return slices.ContainsFunc(c.rows, func(r *row) bool { return r.meter == m })
}

// A meter measures.
type meter struct {
	Meter
	org  *organization
	kind meterKind // how its quantities look
	json []byte    // never changed in place; nil: to be rendered
}

// A Customer is the nested object of that name. Nil and zero times are null.
type Customer struct {
	ID                     uuid.UUID  `json:"id"`
	CreatedAt              Time       `json:"created_at"`
	ModifiedAt             Time       `json:"modified_at"`
	Metadata               Literal    `json:"metadata"`
	ExternalID             *string    `json:"external_id"`
	Email                  *string    `json:"email"`
	EmailVerified          bool       `json:"email_verified"`
	Type                   string     `json:"type"` // "individual" or "team"
	Name                   *string    `json:"name"`
	BillingName            *string    `json:"billing_name"`
	BillingAddress         *Address   `json:"billing_address"`
	TaxID                  *TaxID     `json:"tax_id"`
	Locale                 *string    `json:"locale"`
	OrganizationID         uuid.UUID  `json:"organization_id"`
	DefaultPaymentMethodID *uuid.UUID `json:"default_payment_method_id"`
	DeletedAt              Time       `json:"deleted_at"`
	FirstUserEventAt       Time       `json:"first_user_event_at"`
	AvatarURL              *string    `json:"avatar_url"`
}

// An Address is a customer's billing address.
type Address struct {
	Line1      *string `json:"line1"`
	Line2      *string `json:"line2"`
	PostalCode *string `json:"postal_code"`
	City       *string `json:"city"`
	State      *string `json:"state"`
	Country    string  `json:"country"` // ISO 3166-1 alpha-2
}

// A TaxID is a number and the name of its format, as an array of the two.
type TaxID struct{ Number, Format string }

// A Meter is the nested object of that name. Nil and zero times are null.
type Meter struct {
	Metadata         Literal   `json:"metadata"`
	CreatedAt        Time      `json:"created_at"`
	ModifiedAt       Time      `json:"modified_at"`
	ID               uuid.UUID `json:"id"`
	Name             string    `json:"name"`
	Unit             string    `json:"unit"` // "scalar", "token" or "custom"
	CustomLabel      *string   `json:"custom_label"`
	CustomMultiplier *int64    `json:"custom_multiplier"`
	Filter           Literal   `json:"filter"`
	Aggregation      Literal   `json:"aggregation"`
	OrganizationID   uuid.UUID `json:"organization_id"`
	ArchivedAt       Time      `json:"archived_at"`
}
