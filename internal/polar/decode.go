package polar

import (
	"bytes"
	"errors"
	"fmt"
	"hash/maphash"
	"io"
	"math"
	"sync"

	"github.com/go-json-experiment/json/jsontext"
)

// A ShapeError is a body that is no answer of the call: no JSON, or JSON of
// another shape. Its text is one line and holds nothing of the body's strings.
type ShapeError struct {
	Reason string
}

func (e *ShapeError) Error() string { return "unexpected body: " + e.Reason }

func shapeErrorf(format string, args ...any) *ShapeError {
	return &ShapeError{Reason: fmt.Sprintf(format, args...)}
}

// A Decoder decodes pages. It remembers some of the customers and meters that
// it met, so that what is repeated costs a comparison; how much it remembers is
// bounded. It may be used from several goroutines.
type Decoder struct {
	seed      maphash.Seed
	customers known[Customer]
	meters    known[Meter]
	scratches sync.Pool // of *scratch
}

// NewDecoder returns a Decoder that remembers nothing yet.
func NewDecoder() *Decoder {
	return &Decoder{
		seed:      maphash.MakeSeed(),
		customers: known[Customer]{raw: func(c *Customer) []byte { return c.Raw }},
		meters:    known[Meter]{raw: func(m *Meter) []byte { return m.Raw }},
	}
}

// Page decodes an answer of the list call. The page may share customers and
// meters with other pages.
//
// An item that can't be used is in Page.Rejected; every other is in
// Page.CustomerMeters, and none is in neither. Only a body that is no such
// answer as a whole is an error, a [*ShapeError]. Nothing in the page refers to
// body.
func (d *Decoder) Page(body []byte) (*Page, error) {
	if !bytes.Contains(body, []byte(nulEscape)) {
		s := d.shorten(body)
		defer d.release(s)
		if parts, err := readParts(s.text); err == nil {
			return d.page(s, parts, true)
		}
	}
	parts, strict, err := splitPage(body)
	if err != nil {
		return nil, err
	}
	return d.page(&shortened{whole: body, text: body}, parts, strict)
}

func (d *Decoder) page(s *shortened, parts pageParts, strict bool) (*Page, error) {
	page := &Page{CustomerMeters: make([]CustomerMeter, 0, len(parts.items))}
	var err error
	if page.TotalCount, page.MaxPage, err = decodePagination(parts.pagination); err != nil {
		return nil, err
	}
	items := d.newItemDecoder()
	for i, item := range parts.items {
		place := len(page.CustomerMeters)
		page.CustomerMeters = append(page.CustomerMeters, CustomerMeter{})
		m := &page.CustomerMeters[place]
		marks := s.inside(item.from, item.to)
		text := s.text[item.from:item.to]
		nuls, err := items.marked(text, item.from, marks, strict, m)
		if err != nil && len(marks) > 0 {
			*m = CustomerMeter{}
			text = s.original(item.from, item.to, marks)
			nuls, err = items.item(text, strict, m)
		}
		if err != nil {
			page.CustomerMeters = page.CustomerMeters[:place]
			page.Rejected = append(page.Rejected, reject(i, text, err))
			continue
		}
		page.NULsReplaced += nuls
	}
	return page, nil
}

// DecodeCustomerMeter decodes an answer of the get call. Exactly one of the
// three results is set: a customer meter that can't be used is a RejectedRow
// (with Index 0), a body that is no customer meter at all is a [*ShapeError].
func DecodeCustomerMeter(body []byte) (*CustomerMeter, *RejectedRow, error) {
	strict := true
	object, err := wholeObject(body)
	if err != nil {
		strict = false
		if object, err = wholeObject(body, lenient...); err != nil {
			return nil, nil, err
		}
	}
	var m CustomerMeter
	if _, err := NewDecoder().newItemDecoder().item(object, strict, &m); err != nil {
		row := reject(0, object, err)
		if !hasMember(object, "id", "customer_id", "meter_id") {
			return nil, nil, shapeErrorf("a JSON object that is no customer meter")
		}
		return nil, &row, nil
	}
	return &m, nil, nil
}

// lenient lets pass what makes one item unusable but not its page: the item's
// end is known nevertheless.
var lenient = []jsontext.Options{jsontext.AllowDuplicateNames(true), jsontext.AllowInvalidUTF8(true)}

// wholeObject returns the one JSON object that body consists of.
func wholeObject(body []byte, opts ...jsontext.Options) ([]byte, error) {
	d := jsontext.NewDecoder(bytes.NewBuffer(body), opts...)
	if d.PeekKind() != '{' {
		return nil, notAnObject(d)
	}
	value, err := d.ReadValue()
	if err != nil {
		return nil, syntaxError(err)
	}
	end := d.InputOffset()
	return body[end-int64(len(value)) : end], atEnd(d)
}

// hasMember reports whether object has a member of one of the names.
func hasMember(object []byte, names ...string) bool {
	w := walk(object)
	for name, _, ok := w.next(); ok; name, _, ok = w.next() {
		for _, want := range names {
			if string(name) == want {
				return true
			}
		}
	}
	return false
}

// pageParts are the raw values of a page.
type pageParts struct {
	items      []extent
	pagination []byte
}

// An extent is a part of a body.
type extent struct{ from, to int }

// splitPage finds a page's items. Strictly read, which is the rule, one pass
// over the body proves all items well-formed at once, and strict is true. If
// that fails, a lenient pass finds the items, and each must be looked at for
// itself.
func splitPage(body []byte) (parts pageParts, strict bool, err error) {
	parts, err = readParts(body)
	var shape *ShapeError
	if err == nil || errors.As(err, &shape) {
		return parts, true, err
	}
	parts, err = readParts(body, lenient...)
	if err != nil && !errors.As(err, &shape) {
		err = syntaxError(err)
	}
	return parts, false, err
}

// readParts returns a ShapeError for another shape and jsontext's error for bad
// syntax.
func readParts(body []byte, opts ...jsontext.Options) (parts pageParts, err error) {
	d := jsontext.NewDecoder(bytes.NewBuffer(body), opts...)
	if d.PeekKind() != '{' {
		return parts, notAnObject(d)
	}
	if _, err := d.ReadToken(); err != nil {
		return parts, err
	}
	seen := map[string]bool{}
	for d.PeekKind() != '}' {
		token, err := d.ReadToken()
		if err != nil {
			return parts, err
		}
		name := token.String()
		if seen[name] && (name == "items" || name == "pagination") {
			return parts, shapeErrorf("%s is there twice", name)
		}
		seen[name] = true
		switch name {
		case "items":
			parts.items, err = readItems(d)
		case "pagination":
			parts.pagination, err = d.ReadValue()
			parts.pagination = bytes.Clone(parts.pagination)
		default:
			err = d.SkipValue()
		}
		if err != nil {
			return parts, err
		}
	}
	if _, err := d.ReadToken(); err != nil {
		return parts, err
	}
	if !seen["items"] || !seen["pagination"] {
		return parts, shapeErrorf("a JSON object without items and pagination")
	}
	return parts, atEnd(d)
}

// readItems returns where in the body the items lie.
func readItems(d *jsontext.Decoder) ([]extent, error) {
	if k := d.PeekKind(); k != '[' {
		if _, err := d.ReadValue(); err != nil {
			return nil, err
		}
		return nil, shapeErrorf("items is no array")
	}
	if _, err := d.ReadToken(); err != nil {
		return nil, err
	}
	items := make([]extent, 0, MaxPageSize)
	for d.PeekKind() != ']' {
		value, err := d.ReadValue()
		if err != nil {
			return nil, err
		}
		end := int(d.InputOffset())
		items = append(items, extent{end - len(value), end})
	}
	_, err := d.ReadToken()
	return items, err
}

// notAnObject is the error of a body that does not begin with a brace.
func notAnObject(d *jsontext.Decoder) error {
	_, err := d.ReadToken()
	switch {
	case errors.Is(err, io.EOF):
		return shapeErrorf("empty")
	case err != nil:
		return syntaxError(err)
	}
	return shapeErrorf("JSON, but no object")
}

// atEnd returns an error if anything but white space follows.
func atEnd(d *jsontext.Decoder) error {
	if _, err := d.ReadToken(); !errors.Is(err, io.EOF) {
		return shapeErrorf("more data after the JSON object")
	}
	return nil
}

// syntaxError turns jsontext's error into a ShapeError without the strings of
// the body that it may quote.
func syntaxError(err error) error {
	var syntax *jsontext.SyntacticError
	switch {
	case errors.Is(err, io.ErrUnexpectedEOF):
		return shapeErrorf("JSON that ends in the middle")
	case errors.As(err, &syntax):
		return shapeErrorf("no JSON at byte %d", syntax.ByteOffset)
	}
	return shapeErrorf("no JSON")
}

// decodePagination decodes the counts of a page.
func decodePagination(value []byte) (total, pages int, err error) {
	if value[0] != '{' {
		return 0, 0, shapeErrorf("pagination is no object")
	}
	total, pages = -1, -1
	w := walk(value)
	for name, value, ok := w.next(); ok; name, value, ok = w.next() {
		var target *int
		switch string(name) {
		case "total_count":
			target = &total
		case "max_page":
			target = &pages
		default:
			continue
		}
		n, err := decodeInt64(value)
		if err != nil || n < 0 || n > math.MaxInt {
			return 0, 0, shapeErrorf("pagination.%s is no count", name)
		}
		*target = int(n)
	}
	if total < 0 || pages < 0 {
		return 0, 0, shapeErrorf("pagination without total_count and max_page")
	}
	return total, pages, nil
}
