package polar

import (
	"bytes"
	"errors"
	"strings"
	"time"

	"github.com/go-json-experiment/json/jsontext"
	"github.com/google/uuid"
)

// checkStrict returns why one JSON value is refused by strict reading.
func checkStrict(value []byte) error {
	_, err := jsontext.NewDecoder(bytes.NewBuffer(value)).ReadValue()
	var syntax *jsontext.SyntacticError
	if !errors.As(err, &syntax) {
		return err
	}
	reason := "invalid JSON"
	switch {
	case errors.Is(err, jsontext.ErrDuplicateName):
		reason = "name is there twice"
	case bytes.Contains([]byte(err.Error()), []byte("surrogate")):
		reason = "lone surrogate"
	case bytes.Contains([]byte(err.Error()), []byte("UTF-8")):
		reason = "invalid UTF-8"
	}
	return &fieldError{field: pointerField(syntax.JSONPointer), err: errors.New(reason)}
}

// pointerField writes a JSON pointer as fields are named here.
func pointerField(p jsontext.Pointer) string {
	var names []string
	for name := range p.Tokens() {
		names = append(names, fieldName([]byte(name)))
	}
	if len(names) == 0 {
		return "item"
	}
	if len(names) > 4 {
		names = append(names[:4], "…")
	}
	return strings.Join(names, ".")
}

// fieldName makes any member's name fit for a message.
func fieldName(name []byte) string { return excerpt(string(name)) }

// reject makes a RejectedRow with as much as a second, lenient look at the item
// finds.
func reject(index int, item []byte, reason error) RejectedRow {
	r := RejectedRow{Index: index, Raw: bytes.Clone(item), Reason: reason.Error()}
	if item[0] != '{' {
		return r
	}
	const id, key = fieldSet(1) << fieldID, fieldSet(1)<<fieldCreatedAt | 1<<fieldCustomerID | 1<<fieldMeterID
	var look secondLook
	w := walk(item)
	for name, value, ok := w.next(); ok; name, value, ok = w.next() {
		look.see(fieldIndex(name), value)
	}
	usable := look.seen &^ look.doubtful
	if usable&id != 0 {
		r.ID = look.id
	}
	if usable&key == key {
		r.Key, r.HasKey = look.key, true
	}
	return r
}

// A secondLook collects the id and the key of a rejected item. A field that is
// there twice with different values, or can't be decoded, is doubtful: a wrong
// key would let the page prove a stretch that it does not.
type secondLook struct {
	id             uuid.UUID
	key            Key
	seen, doubtful fieldSet
}

// see takes the field of index i, if it is one of the four.
func (l *secondLook) see(i int, value []byte) {
	switch i {
	case fieldID:
		note(l, i, &l.id, value, decodeUUID)
	case fieldCreatedAt:
		note(l, i, &l.key.CreatedAt, value, decodeTime)
	case fieldCustomerID:
		note(l, i, &l.key.CustomerID, value, decodeUUID)
	case fieldMeterID:
		note(l, i, &l.key.MeterID, value, decodeUUID)
	}
}

// note stores a field's value unless another stands there already.
func note[T uuid.UUID | time.Time](l *secondLook, i int, place *T, value []byte, decode func([]byte) (T, error)) {
	v, err := decode(value)
	if err != nil || l.seen&(1<<i) != 0 && *place != v {
		l.doubtful |= 1 << i
		return
	}
	*place = v
	l.seen |= 1 << i
}
