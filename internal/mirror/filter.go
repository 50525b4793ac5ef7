package mirror

import "polarmirror/internal/store"

// scope is the filter as the store needs it, to tell which rows have left it.
func (f Filter) scope() store.Scope {
	return store.Scope{
		CustomerIDs:         f.CustomerIDs,
		ExternalCustomerIDs: f.ExternalCustomerIDs,
		MeterIDs:            f.MeterIDs,
	}
}

func (f Filter) empty() bool {
	return len(f.CustomerIDs)+len(f.ExternalCustomerIDs)+len(f.MeterIDs) == 0
}
