package web

import (
	"sync"

	"polarmirror/internal/mirror"
)

// Walks knows where the walks of this process are, page by page, where the
// database knows them block by block. It is a [mirror.Progress].
type Walks struct {
	mu sync.Mutex
	at map[string]mirror.Position
}

// NewWalks returns Walks that knows of none.
func NewWalks() *Walks { return &Walks{at: map[string]mirror.Position{}} }

// Walking implements [mirror.Progress].
func (w *Walks) Walking(organization string, at mirror.Position) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.at[organization] = at
}

// Walked implements [mirror.Progress].
func (w *Walks) Walked(organization string, _ mirror.Position, _ error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	delete(w.at, organization)
}

// position returns where the organization's walk is, if this process walks it.
func (w *Walks) position(organization string) (mirror.Position, bool) {
	if w == nil {
		return mirror.Position{}, false
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	at, ok := w.at[organization]
	return at, ok
}
