package polar

import (
	"time"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
	"github.com/google/uuid"
)

// reject makes a RejectedRow of an item that can't be used. Should something be
// excluded, what is no object is not kept: nothing can be removed of it.
func (d *Decoder) reject(index int, item jsontext.Value, reason error) RejectedRow {
	r := reject(index, d.excluded.customerMeter(item), reason)
	if len(d.excluded) > 0 && item.Kind() != '{' {
		r.Raw = nil
	}
	return r
}

// reject makes a RejectedRow, which keeps item, with as much as a second,
// lenient look at the item finds.
func reject(index int, item jsontext.Value, reason error) RejectedRow {
	r := RejectedRow{Index: index, Raw: item, Reason: reason.Error()}
	var look struct {
		ID         guess[uuid.UUID] `json:"id"`
		CreatedAt  guess[time.Time] `json:"created_at"`
		ModifiedAt guess[time.Time] `json:"modified_at"`
		CustomerID guess[uuid.UUID] `json:"customer_id"`
		MeterID    guess[uuid.UUID] `json:"meter_id"`
	}
	if json.Unmarshal(item, &look, lenient) != nil {
		return r
	}
	r.ID, r.CreatedAt = look.ID.value(), look.CreatedAt.value()
	key := Key{CreatedAt: r.CreatedAt, CustomerID: look.CustomerID.value(), MeterID: look.MeterID.value()}
	if !key.CreatedAt.IsZero() && key.CustomerID != uuid.Nil && key.MeterID != uuid.Nil {
		r.Key, r.HasKey = key, true
	}
	if !look.ModifiedAt.doubtful {
		r.ModifiedAt = &look.ModifiedAt.got
	}
	return r
}

// A guess is a field of an object that need not be usable otherwise.
type guess[T comparable] struct {
	got      T
	doubtful bool
}

// UnmarshalJSONFrom never fails for a value that can't be decoded. A field that
// is there twice with different values is doubtful: a wrong key would let the
// page prove a stretch that it does not.
func (g *guess[T]) UnmarshalJSONFrom(dec *jsontext.Decoder) error {
	raw, err := dec.ReadValue()
	if err != nil {
		return err
	}
	var v, zero T
	err = json.Unmarshal(raw, &v, decoding)
	g.doubtful = g.doubtful || err != nil || g.got != zero && g.got != v
	g.got = v
	return nil
}

// value returns the zero value for a field that is not there or doubtful.
func (g *guess[T]) value() T {
	if g.doubtful {
		var zero T
		return zero
	}
	return g.got
}
