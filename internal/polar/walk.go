package polar

import (
	"bytes"

	"github.com/go-json-experiment/json/jsontext"
)

// maxDepth is how deeply values of an item may nest. Polar's own nest a few
// levels (a meter's filter); Postgres parses jsonb recursively and fails a whole
// statement when its stack runs out, which is at some thousands.
const maxDepth = 256

// A walker goes through the members of one JSON object that jsontext has found
// to be well-formed. It checks nothing that jsontext checked, which makes it
// several times as fast as a second pass with a decoder, and it looks out for
// what is JSON and yet no jsonb.
type walker struct {
	text    []byte
	pos     int
	trouble string // why the value just returned is no jsonb; "" if it is
}

// walk begins at an object's opening brace.
func walk(object []byte) *walker { return &walker{text: object, pos: 1} }

// next returns the next member: its name, unquoted, and its value without
// surrounding white space. Both lie in the walker's text; a name with escapes
// is a copy.
func (w *walker) next() (name, value []byte, ok bool) {
	w.trouble = ""
	i := w.skip(w.pos)
	if w.text[i] == ',' {
		i = w.skip(i + 1)
	}
	if w.text[i] == '}' {
		return nil, nil, false
	}
	end := stringEnd(w.text, i)
	name = unquote(w.text[i:end])
	start := w.skip(w.skip(end) + 1) // past the colon
	w.pos = w.valueEnd(start)
	return name, w.text[start:w.pos], true
}

// skip returns the position of the first byte from i on that is no white space.
func (w *walker) skip(i int) int {
	for w.text[i] == ' ' || w.text[i] == '\n' || w.text[i] == '\r' || w.text[i] == '\t' {
		i++
	}
	return i
}

// valueEnd returns the end of the value that begins at i.
func (w *walker) valueEnd(i int) int {
	switch w.text[i] {
	case '"':
		return stringEnd(w.text, i)
	case '{', '[':
		return w.containerEnd(i)
	default:
		end := scalarEnd(w.text, i)
		w.checkScalar(w.text[i:end])
		return end
	}
}

// containerEnd returns the end of the object or array that begins at i.
func (w *walker) containerEnd(i int) int {
	for depth := 0; ; {
		switch w.text[i] {
		case '"':
			i = stringEnd(w.text, i)
		case '{', '[':
			depth++
			if depth > maxDepth {
				w.trouble = "nested too deeply for jsonb"
			}
			i++
		case '}', ']':
			depth--
			i++
			if depth == 0 {
				return i
			}
		case '-', '0', '1', '2', '3', '4', '5', '6', '7', '8', '9':
			end := scalarEnd(w.text, i)
			w.checkScalar(w.text[i:end])
			i = end
		default:
			i++
		}
	}
}

// checkScalar notes a number that jsonb, which holds numbers as numeric, can't
// take.
func (w *walker) checkScalar(scalar []byte) {
	if len(scalar) < 1000 && bytes.IndexByte(scalar, 'e') < 0 && bytes.IndexByte(scalar, 'E') < 0 {
		return
	}
	if checkNumber(scalar) == errBounds {
		w.trouble = "number " + excerpt(string(scalar)) + " is " + errBounds.Error()
	}
}

// scalarEnd returns the end of the number or literal that begins at i.
func scalarEnd(text []byte, i int) int {
	for i < len(text) {
		switch text[i] {
		case ',', '}', ']', ' ', '\n', '\r', '\t':
			return i
		}
		i++
	}
	return i
}

// stringEnd returns the position behind the closing quote of the string whose
// opening quote is at i.
func stringEnd(text []byte, i int) int {
	for i++; ; i++ {
		i += bytes.IndexByte(text[i:], '"')
		escapes := 0
		for text[i-1-escapes] == '\\' {
			escapes++
		}
		if escapes%2 == 0 {
			return i + 1
		}
	}
}

// unquote returns the content of a JSON string. The result lies in quoted
// unless there are escapes.
func unquote(quoted []byte) []byte {
	inner := quoted[1 : len(quoted)-1]
	if bytes.IndexByte(inner, '\\') < 0 {
		return inner
	}
	// An error means invalid UTF-8, which is met here only when a rejected
	// item is looked at again; its replacement matches no field's name.
	text, _ := jsontext.AppendUnquote(nil, quoted)
	return text
}

// nulEscape is U+0000 as JSON can write it, in this way alone.
const nulEscape = `\u0000`

// replaceNULs returns item with every escaped U+0000, in names as well as in
// values, made U+FFFD, and how many there were. Postgres's text and jsonb can't
// hold U+0000. An item without any is returned as it is; otherwise the result
// is a copy of the same length.
func replaceNULs(item []byte) ([]byte, int) {
	if !bytes.Contains(item, []byte(nulEscape)) {
		return item, 0
	}
	item = bytes.Clone(item)
	n := 0
	for i := 0; i < len(item); i++ {
		if item[i] != '\\' {
			continue
		}
		if bytes.HasPrefix(item[i:], []byte(nulEscape)) {
			copy(item[i:], `\ufffd`)
			n++
		}
		i++ // what is escaped begins no escape: in \\u0000 the u is a letter
	}
	return item, n
}
