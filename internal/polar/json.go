package polar

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"reflect"
	"strings"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
	"github.com/google/uuid"
)

// decoding is how the fields of this package's types are read. Everything else
// about it is the library's default, which is strict: no name twice, no invalid
// UTF-8.
var decoding = json.WithUnmarshalers(json.JoinUnmarshalers(
	json.UnmarshalFromFunc(readUUID),
	json.UnmarshalFromFunc(readTime),
	json.UnmarshalFromFunc(readObject),
))

// lenient lets pass what makes one item unusable but not its page: the item's
// end is known nevertheless.
var lenient = json.JoinOptions(jsontext.AllowDuplicateNames(true), jsontext.AllowInvalidUTF8(true))

// decodeObject decodes a JSON object by the struct tags of into.
func decodeObject(object jsontext.Value, into any) error {
	if k := object.Kind(); k != '{' {
		return &fieldError{err: wrongKind(k, "an object")}
	}
	return describe(json.Unmarshal(object, into, decoding))
}

// readText reads a string; want says what it should be. The result is valid
// until the decoder reads on.
func readText(dec *jsontext.Decoder, want string) ([]byte, error) {
	value, err := dec.ReadValue()
	switch {
	case err != nil:
		return nil, err
	case value.Kind() != '"':
		return nil, wrongKind(value.Kind(), want)
	case bytes.IndexByte(value, '\\') < 0:
		return value[1 : len(value)-1], nil
	}
	return jsontext.AppendUnquote(nil, value)
}

func readUUID(dec *jsontext.Decoder, id *uuid.UUID) error {
	text, err := readText(dec, "a UUID")
	if err != nil {
		return err
	}
	// The package also takes URNs, braces and 32 digits; Polar writes 36.
	if *id, err = uuid.ParseBytes(text); err != nil || len(text) != 36 {
		return fmt.Errorf("%s is no UUID", excerpt(string(text)))
	}
	if *id == uuid.Nil { // which stands for "none" here
		return errors.New("the zero UUID, which is nobody's")
	}
	return nil
}

// readTime reads a timestamp of RFC 3339, as the standard library understands it,
// into UTC; null is the zero time. Digits beyond microseconds, which Polar does
// not send and Postgres does not keep, are cut off.
func readTime(dec *jsontext.Decoder, t *time.Time) error {
	if dec.PeekKind() == 'n' {
		*t = time.Time{}
		return dec.SkipValue()
	}
	text, err := readText(dec, "a timestamp")
	if err != nil {
		return err
	}
	if err := t.UnmarshalText(text); err != nil {
		return fmt.Errorf("%s is no RFC 3339 timestamp", excerpt(string(text)))
	}
	*t = t.Truncate(time.Microsecond).UTC()
	if t.IsZero() || t.Year() < 1 || t.Year() > 9999 {
		return fmt.Errorf("%s is out of range", excerpt(string(text)))
	}
	return nil
}

// absent stands in a field that may be null until it is read: no timestamp is
// that late.
var absent = time.Date(10_000, 1, 1, 0, 0, 0, 0, time.UTC)

// UnmarshalJSONFrom reads a number.
func (d *Decimal) UnmarshalJSONFrom(dec *jsontext.Decoder) error {
	value, err := dec.ReadValue()
	if err != nil {
		return err
	}
	if k := value.Kind(); k != '0' {
		return wrongKind(k, "a number")
	}
	*d, err = decimalOf(string(value))
	return err
}

// readObject reads an object as it stands; null is nil.
func readObject(dec *jsontext.Decoder, object *[]byte) error {
	value, err := dec.ReadValue()
	if err != nil {
		return err
	}
	switch k := value.Kind(); k {
	case 'n':
		*object = nil
	case '{':
		*object = bytes.Clone(value)
	default:
		return wrongKind(k, "an object")
	}
	return nil
}

// maxDepth is how deeply values of an item may nest. Polar's own nest a few
// levels (a meter's filter); Postgres parses jsonb recursively and fails a whole
// statement when its stack runs out, which is at some thousands.
const maxDepth = 256

// checkJSONB returns an error for valid JSON that is no jsonb: numbers beyond
// numeric, and values nested too deeply.
func checkJSONB(object []byte) error {
	return describe(json.Unmarshal(object, &jsonb{}, lenient))
}

// jsonb reads any value and keeps nothing of it.
type jsonb struct{}

// UnmarshalJSONFrom fails for what is no jsonb.
func (*jsonb) UnmarshalJSONFrom(dec *jsontext.Decoder) error {
	outside := dec.StackDepth()
	for {
		token, err := dec.ReadToken()
		if err != nil {
			return err
		}
		switch depth := dec.StackDepth(); {
		case depth == outside:
			return nil
		case depth > maxDepth:
			return &fieldError{fieldOf(dec.StackPointer()), errors.New("nested too deeply for jsonb")}
		case token.Kind() == '0':
			if _, err := decimalOf(token.String()); err != nil {
				return &fieldError{fieldOf(dec.StackPointer()), err}
			}
		}
	}
}

// nulEscape is U+0000 as JSON can write it, in this way alone.
var nulEscape = []byte(`\u0000`)

// replaceNULs returns JSON with every escaped U+0000, in names as well as in
// values, made U+FFFD, and how many there were. Postgres's text and jsonb can't
// hold U+0000. A text without any is returned as it is; otherwise the result is a
// copy, in which two names may have become one.
func replaceNULs(text []byte) ([]byte, int) {
	if !bytes.Contains(text, nulEscape) {
		return text, 0
	}
	text = bytes.Clone(text)
	n := 0
	for i := 0; i < len(text); i++ {
		if text[i] != '\\' {
			continue
		}
		if bytes.HasPrefix(text[i:], nulEscape) {
			copy(text[i:], `\ufffd`)
			n++
		}
		i++ // what is escaped begins no escape: in \\u0000 the u is a letter
	}
	return text, n
}

// A fieldError says what is wrong with one field, in one line.
type fieldError struct {
	field string // as in JSON, nested ones with a dot: customer.created_at; "" is the whole
	err   error
}

func (e *fieldError) Error() string {
	if e.field == "" {
		return e.err.Error()
	}
	return e.field + ": " + e.err.Error()
}

func missing(field string) error {
	return &fieldError{field: field, err: errors.New("missing or null")}
}

// within puts an object's name before the field in err.
func within(object string, err error) error {
	var f *fieldError
	switch {
	case !errors.As(err, &f):
		return &fieldError{field: object, err: err}
	case f.field == "":
		return &fieldError{field: object, err: f.err}
	}
	return &fieldError{field: object + "." + f.field, err: f.err}
}

// describe turns an error of the JSON library, which may quote what it read,
// into a fieldError that does not.
func describe(err error) error {
	var field *fieldError
	var syntax *jsontext.SyntacticError
	var semantic *json.SemanticError
	switch {
	case errors.As(err, &field):
		return field
	case errors.As(err, &syntax):
		reason := fmt.Sprintf("no JSON at byte %d", syntax.ByteOffset)
		switch {
		case errors.Is(err, io.ErrUnexpectedEOF):
			reason = "JSON that ends in the middle"
		case errors.Is(err, jsontext.ErrDuplicateName):
			reason = "name is there twice"
		case strings.Contains(err.Error(), "surrogate"):
			reason = "lone surrogate"
		case strings.Contains(err.Error(), "UTF-8"):
			reason = "invalid UTF-8"
		}
		return &fieldError{field: fieldOf(syntax.JSONPointer), err: errors.New(reason)}
	case errors.As(err, &semantic) && semantic.Err != nil:
		return &fieldError{field: fieldOf(semantic.JSONPointer), err: semantic.Err}
	case errors.As(err, &semantic):
		return &fieldError{field: fieldOf(semantic.JSONPointer), err: wrongKind(semantic.JSONKind, nameOf(semantic.GoType))}
	}
	return err
}

// fieldOf writes a JSON pointer as fields are named here.
func fieldOf(p jsontext.Pointer) string {
	var names []string
	for name := range p.Tokens() {
		if len(names) == 4 {
			names = append(names, "…")
			break
		}
		names = append(names, excerpt(name))
	}
	return strings.Join(names, ".")
}

// nameOf says in JSON's words what a Go type is decoded from.
func nameOf(t reflect.Type) string {
	switch t.Kind() {
	case reflect.String:
		return "a string"
	case reflect.Bool:
		return "a boolean"
	case reflect.Slice:
		return "an array"
	case reflect.Struct:
		return "an object"
	}
	return "a count"
}

func wrongKind(got jsontext.Kind, want string) error {
	names := map[jsontext.Kind]string{
		'"': "a string", '0': "a number", '{': "an object", '[': "an array", 't': "a boolean", 'f': "a boolean", 'n': "null",
	}
	return fmt.Errorf("%s instead of %s", names[got], want)
}

// excerpt returns the beginning of text in one line of ASCII, quoted unless it
// is a plain word.
func excerpt(text string) string {
	const most = 40
	quoted := fmt.Sprintf("%+.*q", most, text)
	switch {
	case len(text) > most:
		return fmt.Sprintf("%s… (%d bytes)", quoted, len(text))
	case text != "" && quoted == `"`+text+`"`:
		return text
	}
	return quoted
}
