package polar

import (
	"bytes"
	"hash/maphash"
	"sync"
)

const (
	// knownPrefix is how many bytes of an object find it among those known. They
	// reach beyond the ids and times with which Polar's objects begin.
	knownPrefix = 160
	// knownMost bounds the objects of one generation, knownLongest the size of
	// one that is remembered.
	knownMost    = 512
	knownLongest = 16 << 10
)

// known remembers objects that were found well-formed and usable, by their
// bytes. The younger of two generations becomes the older when it is full, so
// that memory is bounded and what is met again and again stays.
type known[T any] struct {
	raw func(*T) []byte

	mu         sync.Mutex
	young, old map[uint64]*T // by the hash of their first bytes
}

// match returns the object whose bytes are those that text begins with, nil if
// there is none; hash is that of the first bytes of text.
func (k *known[T]) match(hash uint64, text []byte) *T {
	k.mu.Lock()
	defer k.mu.Unlock()
	v, young := k.young[hash]
	if !young {
		v = k.old[hash]
	}
	if v == nil || !bytes.HasPrefix(text, k.raw(v)) {
		return nil
	}
	if !young {
		k.insert(hash, v)
	}
	return v
}

// remember takes in an object.
func (k *known[T]) remember(seed maphash.Seed, v *T) {
	raw := k.raw(v)
	if len(raw) < knownPrefix || len(raw) > knownLongest {
		return
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	k.insert(maphash.Bytes(seed, raw[:knownPrefix]), v)
}

func (k *known[T]) insert(hash uint64, v *T) {
	if len(k.young) >= knownMost {
		k.young, k.old = nil, k.young
	}
	if k.young == nil {
		k.young = make(map[uint64]*T)
	}
	k.young[hash] = v
}
