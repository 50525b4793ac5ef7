package polar

import (
	"bytes"
	"errors"
	"fmt"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
	"github.com/google/uuid"
)

// A ShapeError is a body that is no answer of the call: no JSON, or JSON of
// another shape. Its text is one line and holds nothing of the body's strings.
type ShapeError struct {
	Reason string
}

func (e *ShapeError) Error() string { return "unexpected body: " + e.Reason }

// A Decoder decodes pages. It remembers some of the customers and meters that it
// met, so that what is repeated is shared instead of decoded again. It may be
// used from several goroutines.
type Decoder struct {
	customers *cache[Customer]
	meters    *cache[Meter]
	excluded  excluded
}

// NewDecoder returns a Decoder that remembers nothing yet. It decodes customers as
// if they had no member named in exclude.
func NewDecoder(exclude ...string) *Decoder {
	return &Decoder{
		excluded:  exclude,
		customers: newCache(func(c *Customer) []byte { return c.Raw }),
		meters:    newCache(func(m *Meter) []byte { return m.Raw }),
	}
}

// wirePage is an answer of the list call.
type wirePage[Items any] struct {
	Items      Items `json:"items"`
	Pagination struct {
		TotalCount *uint32 `json:"total_count"`
		MaxPage    *uint32 `json:"max_page"`
	} `json:"pagination"`
}

// wireCustomerMeter is a customer meter as Polar sends it.
type wireCustomerMeter struct {
	ID            id             `json:"id"`
	CreatedAt     timestamp      `json:"created_at"`
	ModifiedAt    timestamp      `json:"modified_at"`
	CustomerID    id             `json:"customer_id"`
	MeterID       id             `json:"meter_id"`
	ConsumedUnits Decimal        `json:"consumed_units"`
	CreditedUnits Decimal        `json:"credited_units"`
	Balance       Decimal        `json:"balance"`
	Customer      extent         `json:"customer"`
	Meter         extent         `json:"meter"`
	Extra         jsontext.Value `json:",embed"`
}

// An id is a UUID of a customer meter. It and timestamp have methods of their own
// because functions in the options are looked up for each field of each item.
type id uuid.UUID

// UnmarshalJSONFrom reads a UUID.
func (i *id) UnmarshalJSONFrom(dec *jsontext.Decoder) error { return readUUID(dec, (*uuid.UUID)(i)) }

// A timestamp is one of a customer meter.
type timestamp struct {
	time.Time      // zero if null
	there     bool // even if null
}

// UnmarshalJSONFrom reads a timestamp or null.
func (t *timestamp) UnmarshalJSONFrom(dec *jsontext.Decoder) error {
	t.there = true
	return readTime(dec, &t.Time)
}

// An extent is where in the body a value lies.
type extent struct{ from, to int }

// UnmarshalJSONFrom reads any value. Whether a name is there twice in it is
// looked at when it is decoded.
func (e *extent) UnmarshalJSONFrom(dec *jsontext.Decoder) error {
	return json.UnmarshalDecode(dec, (*extentOfAny)(e), jsontext.AllowDuplicateNames(true))
}

type extentOfAny extent

func (e *extentOfAny) UnmarshalJSONFrom(dec *jsontext.Decoder) error {
	value, err := dec.ReadValue()
	e.to = int(dec.InputOffset())
	e.from = e.to - len(value)
	return err
}

// values are the values of an array as they stand in the body.
type values []jsontext.Value

// UnmarshalJSONFrom refuses a second array, which leniently read would take the
// place of the first.
func (v *values) UnmarshalJSONFrom(dec *jsontext.Decoder) error {
	if *v != nil {
		return errors.New("name is there twice")
	}
	return json.UnmarshalDecode(dec, (*[]jsontext.Value)(v))
}

// Page decodes an answer of the list call. The page may share customers and
// meters with other pages.
//
// An item that can't be used is in Page.Rejected; every other is in
// Page.CustomerMeters, and none is in neither. Only a body that is no such
// answer as a whole is an error, a [*ShapeError]. Nothing in the page refers to
// body.
func (d *Decoder) Page(body []byte) (*Page, error) {
	if page := d.wholePage(body); page != nil {
		return page, nil
	}
	var wire wirePage[values]
	if err := json.Unmarshal(body, &wire, lenient); err != nil {
		return nil, &ShapeError{d.excluded.describe(err).Error()}
	}
	if wire.Items == nil || wire.Pagination.TotalCount == nil || wire.Pagination.MaxPage == nil {
		return nil, &ShapeError{"a JSON object without items and pagination"}
	}
	page := &Page{TotalCount: int(*wire.Pagination.TotalCount), MaxPage: int(*wire.Pagination.MaxPage)}
	for i, item := range wire.Items {
		m, nuls, err := d.item(item)
		if err != nil {
			page.Rejected = append(page.Rejected, d.reject(i, item, err))
			continue
		}
		page.CustomerMeters = append(page.CustomerMeters, *m)
		page.NULsReplaced += nuls
	}
	return page, nil
}

// wholePage decodes a body strictly and in one pass, which is several times as
// fast as item by item. It returns nil unless it finds items that are all usable
// as they stand, and none can have anything to be removed.
func (d *Decoder) wholePage(body []byte) *Page {
	var wire wirePage[[]wireCustomerMeter]
	wire.Items = make([]wireCustomerMeter, 0, MaxPageSize)
	if len(d.excluded) > 0 || bytes.Contains(body, nulEscape) || json.Unmarshal(body, &wire) != nil ||
		len(wire.Items) == 0 || wire.Pagination.TotalCount == nil || wire.Pagination.MaxPage == nil {
		return nil
	}
	page := &Page{
		CustomerMeters: make([]CustomerMeter, len(wire.Items)),
		TotalCount:     int(*wire.Pagination.TotalCount),
		MaxPage:        int(*wire.Pagination.MaxPage),
	}
	for i := range wire.Items {
		if d.customerMeter(body, &wire.Items[i], &page.CustomerMeters[i]) != nil {
			return nil
		}
	}
	return page
}

// DecodeCustomerMeter decodes an answer of the get call. Exactly one of the
// three results is set: a customer meter that can't be used is a RejectedRow
// (with Index 0), a body that is no customer meter at all is a [*ShapeError]. The
// customer has no member named in exclude.
func DecodeCustomerMeter(body []byte, exclude ...string) (*CustomerMeter, *RejectedRow, error) {
	d := NewDecoder(exclude...)
	var item jsontext.Value
	if err := json.Unmarshal(body, &item, lenient); err != nil {
		return nil, nil, &ShapeError{d.excluded.describe(err).Error()}
	}
	m, _, err := d.item(item)
	if err == nil {
		return m, nil, nil
	}
	row := d.reject(0, item, err)
	if row.ID == uuid.Nil && !row.HasKey {
		return nil, nil, &ShapeError{"JSON that is no customer meter"}
	}
	return nil, &row, nil
}

// item decodes one item by itself and returns how many U+0000 it replaced.
func (d *Decoder) item(item jsontext.Value) (*CustomerMeter, int, error) {
	var wire wireCustomerMeter
	text, nuls := replaceNULs(d.excluded.customerMeter(item))
	if err := decodeObject(text, &wire); err != nil {
		return nil, 0, err
	}
	m := &CustomerMeter{}
	return m, nuls, d.customerMeter(text, &wire, m)
}

// customerMeter makes m of what was read from body, which has no U+0000.
func (d *Decoder) customerMeter(body []byte, w *wireCustomerMeter, m *CustomerMeter) (err error) {
	if err := w.flat(m); err != nil {
		return err
	}
	if m.Extra = w.Extra; m.Extra != nil {
		if err := checkJSONB(m.Extra); err != nil {
			return err
		}
	}
	if m.Customer, err = nested(d.customers, body[w.Customer.from:w.Customer.to], decodeCustomer); err != nil {
		return within("customer", err)
	}
	if m.Meter, err = nested(d.meters, body[w.Meter.from:w.Meter.to], decodeMeter); err != nil {
		return within("meter", err)
	}
	return checkNested(m)
}

// flat sets the fields of m that are neither nested nor unknown.
func (w *wireCustomerMeter) flat(m *CustomerMeter) error {
	switch {
	case w.ID == (id{}):
		return missing("id")
	case w.CreatedAt.IsZero():
		return missing("created_at")
	case !w.ModifiedAt.there:
		return missing("modified_at")
	case w.CustomerID == (id{}):
		return missing("customer_id")
	case w.MeterID == (id{}):
		return missing("meter_id")
	case w.ConsumedUnits == Decimal{}:
		return missing("consumed_units")
	case w.CreditedUnits == Decimal{}:
		return missing("credited_units")
	case w.Balance == Decimal{}:
		return missing("balance")
	}
	credited, ok := w.CreditedUnits.Int64()
	if !ok {
		return &fieldError{"credited_units", fmt.Errorf("%s is no 64-bit integer", excerpt(w.CreditedUnits.String()))}
	}
	*m = CustomerMeter{
		ID:            uuid.UUID(w.ID),
		CustomerID:    uuid.UUID(w.CustomerID),
		MeterID:       uuid.UUID(w.MeterID),
		ConsumedUnits: w.ConsumedUnits,
		CreditedUnits: credited,
		Balance:       w.Balance,
		CreatedAt:     w.CreatedAt.Time,
		ModifiedAt:    w.ModifiedAt.Time,
	}
	return nil
}

// nested decodes a nested object, unless it is known.
func nested[T any](known *cache[T], raw []byte, decode func([]byte) (*T, error)) (*T, error) {
	if len(raw) == 0 {
		return nil, errors.New("missing")
	}
	if v := known.get(raw); v != nil {
		return v, nil
	}
	v, err := decode(bytes.Clone(raw))
	if err == nil {
		known.put(v)
	}
	return v, err
}

// decodeCustomer decodes a customer, which keeps raw.
func decodeCustomer(raw []byte) (*Customer, error) {
	c := &Customer{Raw: raw, ModifiedAt: absent}
	if err := decodeObject(raw, c); err != nil {
		return nil, err
	}
	if err := checkPresent(c.ID, c.OrganizationID, c.CreatedAt, c.ModifiedAt); err != nil {
		return nil, err
	}
	return c, checkJSONB(raw)
}

// decodeMeter is decodeCustomer for a meter.
func decodeMeter(raw []byte) (*Meter, error) {
	var wire struct {
		Meter
		Name *string `json:"name"` // tells null from ""
	}
	wire.Raw, wire.ModifiedAt = raw, absent
	if err := decodeObject(raw, &wire); err != nil {
		return nil, err
	}
	if err := checkPresent(wire.ID, wire.OrganizationID, wire.CreatedAt, wire.ModifiedAt); err != nil {
		return nil, err
	}
	if wire.Name == nil {
		return nil, missing("name")
	}
	m := wire.Meter
	m.Name = *wire.Name
	return &m, checkJSONB(raw)
}

// checkPresent refuses a customer or a meter without what both must have.
func checkPresent(id, organization uuid.UUID, created, modified time.Time) error {
	switch {
	case id == uuid.Nil:
		return missing("id")
	case created.IsZero():
		return missing("created_at")
	case modified.Equal(absent):
		return missing("modified_at")
	case organization == uuid.Nil:
		return missing("organization_id")
	}
	return nil
}

// checkNested refuses a customer meter that contradicts its nested objects.
func checkNested(m *CustomerMeter) error {
	switch {
	case m.Customer.ID != m.CustomerID:
		return fmt.Errorf("customer_id: %s, but customer.id is %s", m.CustomerID, m.Customer.ID)
	case m.Meter.ID != m.MeterID:
		return fmt.Errorf("meter_id: %s, but meter.id is %s", m.MeterID, m.Meter.ID)
	case m.Customer.OrganizationID != m.Meter.OrganizationID:
		return fmt.Errorf("customer.organization_id: %s, but meter.organization_id is %s",
			m.Customer.OrganizationID, m.Meter.OrganizationID)
	}
	return nil
}
