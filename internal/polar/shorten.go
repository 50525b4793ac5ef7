package polar

import (
	"bytes"
	"hash/maphash"
)

// Most bytes of a page are nested customers and meters, and most of those are
// repeated: a customer has several customer meters, and there are few meters.
// Before a body is read strictly, each nested object that is a copy of one
// already found well-formed, or of one earlier in the same body, is replaced by
// a digit. If the shortened body is well-formed, so is the body:
//
//   - What is replaced begins with the brace of `er":{`. The quote follows a
//     letter, so it is not escaped; it opens or closes a string. Were it to open
//     one, a letter would stand before a string, which the strict reading of the
//     part before, the same in both, refuses. So it closes one, and after the
//     colon nothing but a value may follow.
//   - What is replaced is one whole value: its bytes are those of a well-formed
//     object, and an object ends where its braces balance.
//   - So is the digit that takes its place.

// A mark is a nested object met while a body was shortened.
type mark struct {
	at       int // its offset in the shortened body
	cut      bool
	removed  int // bytes removed from the body up to its end
	customer *entry[Customer]
	meter    *entry[Meter]
}

// An entry is an object of which there may be copies.
type entry[T any] struct {
	value      *T  // nil until its first sight was decoded, and if that is of no use
	start, end int // of its first sight, in the whole body; end is 0 until looked for
}

// A shortened is a body in which digits stand for copies.
type shortened struct {
	whole []byte
	text  []byte
	marks []mark // in the order of the body

	removed int // bytes removed before marks; see inside
}

// maxMarks bounds the marks of one body; a page has 200.
const maxMarks = 4 * MaxPageSize

// shorten replaces the copies in body.
func (d *Decoder) shorten(body []byte) *shortened {
	s := &shortened{whole: body, text: body, marks: make([]mark, 0, 2*MaxPageSize)}
	customers, meters := newSights(&d.customers), newSights(&d.meters)
	var text []byte
	last, removed := 0, 0 // what follows last is not in text yet
	for pos := 0; len(s.marks) < maxMarks; {
		i := bytes.Index(body[pos:], []byte(`er":{`))
		if i < 0 {
			break
		}
		name, start := body[:pos+i], pos+i+len(`er":`)
		pos = start + 1
		m, end := mark{at: start - removed}, 0
		switch {
		case bytes.HasSuffix(name, []byte(`"custom`)):
			m.customer, end = customers.at(d.seed, body, start)
		case bytes.HasSuffix(name, []byte(`"met`)):
			m.meter, end = meters.at(d.seed, body, start)
		}
		if m.customer == nil && m.meter == nil {
			continue
		}
		if end > 0 {
			if text == nil {
				text = d.text(len(body))
			}
			text = append(append(text, body[last:start]...), '0')
			removed += end - start - 1
			m.cut, pos, last = true, end, end
		}
		m.removed = removed
		s.marks = append(s.marks, m)
	}
	if text != nil {
		s.text = append(text, body[last:]...)
	}
	return s
}

// text returns an empty buffer.
func (d *Decoder) text(size int) []byte {
	if b, ok := d.texts.Get().(*[]byte); ok {
		return (*b)[:0]
	}
	return make([]byte, 0, size)
}

// release keeps the buffer of a shortened body for the next; nothing in a page
// refers to it.
func (d *Decoder) release(s *shortened) {
	if len(s.text) != len(s.whole) && cap(s.text) <= 1<<20 {
		d.texts.Put(&s.text)
	}
}

// sights are the objects met in one body, by the hash of their first bytes.
type sights[T any] struct {
	known  *known[T]
	byHash map[uint64]*entry[T]
	spare  []entry[T] // one allocation for a page of them
}

func newSights[T any](k *known[T]) *sights[T] {
	return &sights[T]{known: k, byHash: make(map[uint64]*entry[T], MaxPageSize)}
}

// at returns the entry of the object at start, and where it ends if it is a
// copy, else 0. There is no entry if the object can't be told from others.
func (s *sights[T]) at(seed maphash.Seed, body []byte, start int) (*entry[T], int) {
	if len(body)-start < knownPrefix {
		return nil, 0
	}
	hash := maphash.Bytes(seed, body[start:start+knownPrefix])
	e, again := s.byHash[hash]
	if !again {
		e = s.add(hash)
		e.start, e.value = start, s.known.match(hash, body[start:])
		if e.value == nil {
			return e, 0
		}
	}
	raw := e.raw(s.known, body)
	if len(raw) < knownPrefix || !bytes.HasPrefix(body[start:], raw) {
		return nil, 0
	}
	return e, start + len(raw)
}

func (s *sights[T]) add(hash uint64) *entry[T] {
	if len(s.spare) == 0 {
		s.spare = make([]entry[T], MaxPageSize)
	}
	e := &s.spare[0]
	s.spare = s.spare[1:]
	s.byHash[hash] = e
	return e
}

// raw returns the bytes of which there may be copies.
func (e *entry[T]) raw(k *known[T], body []byte) []byte {
	if e.value != nil {
		return k.raw(e.value)
	}
	if e.end == 0 {
		e.end = objectEnd(body, e.start)
	}
	return body[e.start:e.end]
}

// objectEnd returns where the braces of the object at start balance, start
// itself if they don't. Nothing is known of text yet.
func objectEnd(text []byte, start int) int {
	depth := 0
	for i := start; i < len(text); i++ {
		switch text[i] {
		case '"':
			for i++; i < len(text) && text[i] != '"'; i++ {
				if text[i] == '\\' {
					i++
				}
			}
		case '{', '[':
			depth++
		case '}', ']':
			depth--
			if depth == 0 {
				return i + 1
			}
		}
	}
	return start
}

// inside returns the marks in text[from:to]. Items are asked for in their
// order: marks before from are dropped.
func (s *shortened) inside(from, to int) []mark {
	for len(s.marks) > 0 && s.marks[0].at < from {
		s.removed = s.marks[0].removed
		s.marks = s.marks[1:]
	}
	n := 0
	for n < len(s.marks) && s.marks[n].at < to {
		n++
	}
	return s.marks[:n]
}

// original returns what text[from:to], whose marks are inside, stands for.
func (s *shortened) original(from, to int, inside []mark) []byte {
	removed := s.removed
	if len(inside) > 0 {
		removed = inside[len(inside)-1].removed
	}
	return s.whole[from+s.removed : to+removed]
}
