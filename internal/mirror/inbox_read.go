package mirror

import (
	"errors"
	"fmt"
	"slices"

	"polarmirror/internal/polar"
	"polarmirror/internal/store"
)

// read turns a delivery into a change, or into nothing, and says how it is to be
// settled if the change can be written.
func (w *inboxWorker) read(d store.Delivery, lessons *lessons) (*store.Change, store.Settlement) {
	failed := func(err error) (*store.Change, store.Settlement) {
		return nil, store.Settlement{Status: store.DeliveryFailed, Error: err.Error()}
	}
	event, err := polar.DecodeEvent(d.Payload)
	if err != nil {
		return failed(err)
	}
	verdict := store.Settlement{Status: store.DeliveryApplied}
	change := &store.Change{}
	if event.Type == polar.CustomerStateChanged {
		state, err := event.CustomerState()
		if err != nil {
			return failed(err)
		}
		change.Customer, change.CustomerMeters = state.Customer, lessons.without(state.CustomerMeters)
		if len(state.Rejected) > 0 {
			verdict = store.Settlement{Status: store.DeliveryFailed, Error: rejection(state.Rejected)}
		}
	} else if change.Customer, err = event.Customer(); err != nil {
		return failed(err)
	}
	if change.Customer.OrganizationID != w.worker.org.ID || change.Customer.ID != d.Customer {
		return failed(errors.New("data: not the customer it was received for"))
	}
	if !w.worker.org.Filter.narrow(change) {
		return nil, store.Settlement{Status: store.DeliveryIgnored}
	}
	return change, verdict
}

// rejection says why some of a customer's meters can't be used.
func rejection(rejected []polar.RejectedRow) string {
	first := rejected[0]
	text := fmt.Sprintf("data.active_meters[%d]: %s", first.Index, first.Reason)
	if more := len(rejected) - 1; more > 0 {
		text += fmt.Sprintf(" (and %d more)", more)
	}
	return text + "; the rest of it was applied"
}

// narrow takes out of a change what f does not let in, and reports false if that
// is all of it. A customer that a filter by meter or external id does not let in is
// kept current if the mirror has it, and not taken in: its external id may have
// changed, or been cleared with its deletion, and the next full run has to know
// that its rows are out of scope.
func (f Filter) narrow(change *store.Change) bool {
	c := change.Customer
	if len(f.CustomerIDs) > 0 && !slices.Contains(f.CustomerIDs, c.ID) {
		return false
	}
	if len(f.ExternalCustomerIDs) > 0 && (c.ExternalID == nil || !slices.Contains(f.ExternalCustomerIDs, *c.ExternalID)) {
		change.CustomerMeters, change.OnlyKnown = nil, true
		return true
	}
	if len(f.MeterIDs) > 0 {
		change.CustomerMeters = slices.DeleteFunc(change.CustomerMeters, func(m *polar.CustomerMeter) bool {
			return !slices.Contains(f.MeterIDs, m.MeterID)
		})
		change.OnlyKnown = len(change.CustomerMeters) == 0
	}
	return true
}
