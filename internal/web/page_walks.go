package web

import (
	"sync"

	"polarmirror/internal/mirror"
)

// Walks knows where the walks of this process are, page by page, where the
// database knows them block by block. It is a [mirror.Progress]. The zero value
// knows of none.
type Walks struct{ at sync.Map } // of mirror.Position, by organization

// Walking implements [mirror.Progress].
func (w *Walks) Walking(organization string, at mirror.Position) { w.at.Store(organization, at) }

// Walked implements [mirror.Progress].
func (w *Walks) Walked(organization string, _ mirror.Position, _ error) { w.at.Delete(organization) }

// position returns where the organization's walk is, if this process walks it.
func (w *Walks) position(organization string) (at mirror.Position, ok bool) {
	value, _ := w.at.Load(organization)
	at, ok = value.(mirror.Position)
	return at, ok
}
