package mirror

import (
	"context"
	"errors"
	"fmt"

	"github.com/google/uuid"

	"polarmirror/internal/fetch"
	"polarmirror/internal/polar"
	"polarmirror/internal/store"
)

// A Lookup is one customer meter at Polar beside the mirror's row.
type Lookup struct {
	ID           uuid.UUID
	Organization string               // whose token could see it; "" if none could
	Polar        *polar.CustomerMeter // nil if Polar does not have it
	Rejected     *polar.RejectedRow   // set if Polar has it and it can't be mirrored
	Mirror       *store.Row           // nil if the mirror does not have it
	Differences  []polar.Difference   // A is Polar's value, B the mirror's; nil unless both have it
}

// Lookup asks Polar for a customer meter, with each organization's token until
// one can see it, and reads the mirror's row.
func (m *Mirror) Lookup(ctx context.Context, id uuid.UUID) (*Lookup, error) {
	found := &Lookup{ID: id}
	var failed error
	for _, org := range m.opts.Organizations {
		single, err := org.Client.Get(ctx, id)
		if errors.Is(err, fetch.ErrNotFound) {
			continue
		}
		if err != nil {
			failed = errors.Join(failed, fmt.Errorf("organization %s: %w", org.Name, err))
			continue
		}
		found.Organization, found.Polar, found.Rejected = org.Name, single.CustomerMeter, single.Rejected
		break
	}
	if found.Organization == "" && failed != nil {
		return nil, failed
	}
	rows, err := m.opts.Store.Rows(ctx, []uuid.UUID{id})
	if err != nil {
		return nil, err
	}
	found.Mirror = rows[id]
	if found.Polar != nil && found.Mirror != nil {
		found.Differences = polar.Diff(found.Polar, &found.Mirror.CustomerMeter)
	}
	return found, nil
}
