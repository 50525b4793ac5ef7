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

	scratch *scratch // nil if there is nothing to give back
}

// A scratch is memory for one body at a time. Nothing in a page refers to it.
type scratch struct {
	text      []byte
	marks     []mark
	customers sights[Customer]
	meters    sights[Meter]
}

func (d *Decoder) scratch() *scratch {
	if s, ok := d.scratches.Get().(*scratch); ok {
		return s
	}
	return &scratch{
		marks:     make([]mark, 0, 2*MaxPageSize),
		customers: newSights(&d.customers),
		meters:    newSights(&d.meters),
	}
}

// maxMarks bounds the marks of one body; a page has 200.
const maxMarks = 4 * MaxPageSize

// shorten replaces the copies in body.
func (d *Decoder) shorten(body []byte) *shortened {
	memory := d.scratch()
	s := &shortened{whole: body, text: body, marks: memory.marks[:0], scratch: memory}
	customers, meters := &memory.customers, &memory.meters
	text := memory.text[:0]
	last, removed := 0, 0 // what follows last is not in text yet
	for pos := 0; len(s.marks) < maxMarks; {
		i := bytes.IndexByte(body[pos:], '{') // rarer than what stands before it
		if i < 0 {
			break
		}
		start := pos + i
		pos = start + 1
		name, ok := bytes.CutSuffix(body[:start], []byte(`er":`))
		if !ok {
			continue
		}
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
			if cap(text) == 0 {
				text = make([]byte, 0, len(body))
			}
			text = append(append(text, body[last:start]...), '0')
			removed += end - start - 1
			m.cut, pos, last = true, end, end
		}
		m.removed = removed
		s.marks = append(s.marks, m)
	}
	memory.marks, memory.text = s.marks, text
	if removed > 0 {
		s.text = append(text, body[last:]...)
		memory.text = s.text
	}
	return s
}

// release keeps the memory of a shortened body for the next.
func (d *Decoder) release(s *shortened) {
	if m := s.scratch; m != nil && cap(m.text) <= 1<<20 {
		clear(m.marks)
		m.customers.forget()
		m.meters.forget()
		d.scratches.Put(m)
	}
}

// sights are the objects met in one body, by the hash of their first bytes.
type sights[T any] struct {
	known  *known[T]
	byHash map[uint64]*entry[T]
	all    []entry[T] // one allocation for a page of them
}

func newSights[T any](k *known[T]) sights[T] {
	return sights[T]{known: k, byHash: make(map[uint64]*entry[T], MaxPageSize), all: make([]entry[T], 0, MaxPageSize)}
}

// forget makes s ready for another body.
func (s *sights[T]) forget() {
	clear(s.byHash)
	clear(s.all)
	s.all = s.all[:0]
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
	var e *entry[T]
	if len(s.all) < cap(s.all) { // or the others would move
		s.all = s.all[:len(s.all)+1]
		e = &s.all[len(s.all)-1]
	} else {
		e = new(entry[T])
	}
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
