package polar

import (
	"bytes"
	"errors"
	"slices"
	"strings"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
)

// excluded are members of customers of which nothing is kept. They are removed
// from what Polar sent before anything is made of it, errors included.
type excluded []string

// customer returns a customer without them; nil if it is no object, of which
// nothing can be removed.
func (x excluded) customer(object jsontext.Value) jsontext.Value {
	return editObject(object, func(name string, value jsontext.Value) jsontext.Value {
		if slices.Contains(x, name) {
			return nil
		}
		return value
	})
}

// customerMeter returns a customer meter without them; what is no object, as it is.
func (x excluded) customerMeter(item jsontext.Value) jsontext.Value {
	if len(x) == 0 || item.Kind() != '{' {
		return item
	}
	return editObject(item, func(name string, value jsontext.Value) jsontext.Value {
		if name == "customer" {
			return x.customer(value)
		}
		return value
	})
}

// event returns the body of an event without them, and without anything else but
// the customer and the states of its meters.
func (x excluded) event(body []byte) (jsontext.Value, error) {
	if len(x) == 0 {
		return body, nil
	}
	var event jsontext.Value
	if err := json.Unmarshal(body, &event, lenient); err != nil || event.Kind() != '{' {
		return body, err
	}
	return editObject(event, func(name string, value jsontext.Value) jsontext.Value {
		switch name {
		case "type", "timestamp":
			return value
		case "data":
			return editObject(x.customer(value), func(name string, value jsontext.Value) jsontext.Value {
				if ofState(name) && name != "active_meters" {
					return nil
				}
				return value
			})
		}
		return nil
	}), nil
}

// describe is the function describe, but does not say where in a member the error
// is: the names of what is excluded may be as personal as the rest of it.
func (x excluded) describe(err error) error {
	err = describe(err)
	var field *fieldError
	if len(x) > 0 && errors.As(err, &field) {
		name, _, _ := strings.Cut(field.field, ".")
		return &fieldError{name, field.err}
	}
	return err
}

// editObject returns valid JSON with each member as edit returns it, those left
// out for which that is nil. It returns nil for what is no object.
func editObject(object jsontext.Value, edit func(name string, value jsontext.Value) jsontext.Value) jsontext.Value {
	if object.Kind() != '{' {
		return nil
	}
	dec := jsontext.NewDecoder(bytes.NewReader(object), lenient)
	if _, err := dec.ReadToken(); err != nil {
		return nil
	}
	edited := jsontext.Value("{")
	for dec.PeekKind() == '"' {
		end := len(edited)
		if end > 1 {
			edited = append(edited, ',')
		}
		quoted, err := dec.ReadValue()
		if err != nil {
			return nil
		}
		edited = append(append(edited, quoted...), ':')
		name, _ := jsontext.AppendUnquote(nil, quoted) // invalid UTF-8 makes no known name
		value, err := dec.ReadValue()
		if err != nil {
			return nil
		}
		if value = edit(string(name), value); value == nil {
			edited = edited[:end]
			continue
		}
		edited = append(edited, value...)
	}
	return append(edited, '}')
}
