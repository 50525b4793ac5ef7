package polar

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/google/uuid"
)

// errMissing is a required field's absence.
var errMissing = errors.New("missing")

// A fieldError says what is wrong with one field.
type fieldError struct {
	field string // as in JSON, nested ones with a dot: customer.created_at
	err   error
}

func (e *fieldError) Error() string { return e.field + ": " + e.err.Error() }
func (e *fieldError) Unwrap() error { return e.err }

// within puts an object's name before the field in err.
func within(object string, err error) error {
	var f *fieldError
	if errors.As(err, &f) {
		return &fieldError{field: object + "." + f.field, err: f.err}
	}
	return &fieldError{field: object, err: err}
}

// A fieldSet is a set of required fields: bit i is the field of index i.
type fieldSet uint16

// missing returns an error for the first field of names that s does not have.
func (s fieldSet) missing(names []string) error {
	for i, name := range names {
		if s&(1<<i) == 0 {
			return &fieldError{field: name, err: errMissing}
		}
	}
	return nil
}

// kind names the JSON type of a value, for messages.
func kind(value []byte) string {
	switch value[0] {
	case '"':
		return "a string"
	case '{':
		return "an object"
	case '[':
		return "an array"
	case 't', 'f':
		return "a boolean"
	case 'n':
		return "null"
	default:
		return "a number"
	}
}

func isNull(value []byte) bool { return value[0] == 'n' }

// wantKind is the error of a value of another type.
func wantKind(want string, value []byte) error {
	return fmt.Errorf("%s instead of %s", kind(value), want)
}

func decodeUUID(value []byte) (uuid.UUID, error) {
	if value[0] != '"' {
		return uuid.UUID{}, wantKind("a UUID", value)
	}
	text := unquote(value)
	// The package also takes URNs, braces and 32 digits; Polar writes 36.
	if len(text) == 36 {
		id, err := uuid.ParseBytes(text)
		switch {
		case err == nil && id == uuid.Nil: // which stands for "none" here
			return id, errors.New("the zero UUID, which is nobody's")
		case err == nil:
			return id, nil
		}
	}
	return uuid.UUID{}, fmt.Errorf("%s is no UUID", excerpt(string(text)))
}

func decodeDecimal(value []byte) (Decimal, error) {
	if k := kind(value); k != "a number" {
		return Decimal{}, wantKind("a number", value)
	}
	return parseDecimalBytes(value)
}

func decodeInt64(value []byte) (int64, error) {
	if len(value) <= 9 && digitsEnd(value, 0) == len(value) && value[0] != '0' {
		return int64(number(value)), nil // the rule, without an allocation
	}
	d, err := decodeDecimal(value)
	if err != nil {
		return 0, err
	}
	v, ok := d.Int64()
	if !ok {
		return 0, fmt.Errorf("%s is no 64-bit integer", excerpt(d.String()))
	}
	return v, nil
}

func decodeBool(value []byte) (bool, error) {
	switch value[0] {
	case 't':
		return true, nil
	case 'f', 'n':
		return false, nil
	}
	return false, wantKind("a boolean", value)
}

// decodeString returns a copy.
func decodeString(value []byte) (string, error) {
	if value[0] != '"' {
		return "", wantKind("a string", value)
	}
	return string(unquote(value)), nil
}

// decodeWord decodes one of few known values without an allocation; null and
// absence are "".
func decodeWord(value []byte, known ...string) (string, error) {
	if isNull(value) {
		return "", nil
	}
	if value[0] == '"' {
		for _, word := range known {
			if string(value[1:len(value)-1]) == word {
				return word, nil
			}
		}
	}
	return decodeString(value)
}

// decodeOptional decodes a string or null into place, which holds the string
// that the result points to.
func decodeOptional(value []byte, place *string) (*string, error) {
	if isNull(value) {
		return nil, nil
	}
	text, err := decodeString(value)
	if err != nil {
		return nil, err
	}
	*place = text
	return place, nil
}

// decodeObject returns an object as it stands, nil for null.
func decodeObject(value []byte) ([]byte, error) {
	if isNull(value) {
		return nil, nil
	}
	if value[0] != '{' {
		return nil, wantKind("an object", value)
	}
	return slices.Clip(value), nil
}

// excerpt quotes the beginning of text so that it fits into one line of ASCII.
func excerpt(text string) string {
	const most = 40
	if len(text) <= most {
		return quoteASCII(text)
	}
	return quoteASCII(text[:most]) + "… (" + fmt.Sprint(len(text)) + " bytes)"
}

// quoteASCII leaves plain words as they are and quotes everything else.
func quoteASCII(text string) string {
	plain := text != "" && strings.IndexFunc(text, func(r rune) bool {
		return r <= ' ' || r > '~' || r == '"' || r == '\\'
	}) < 0
	if plain {
		return text
	}
	return fmt.Sprintf("%+q", text)
}
