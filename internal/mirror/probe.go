package mirror

import (
	"context"
	"fmt"
	"time"

	"github.com/google/uuid"

	"polarmirror/internal/fetch"
)

// A Probe is what an organization's token sees, and how fast.
type Probe struct {
	Rows  int           // customer meters, within the filter
	Start time.Duration // what a page at the start of their list takes
}

// Probe asks for one row of the organization. A token that sees another organization is
// an error.
func (o *Organization) Probe(ctx context.Context) (Probe, error) {
	params := fetch.ListParams{
		CustomerID:         o.Filter.CustomerIDs,
		ExternalCustomerID: o.Filter.ExternalCustomerIDs,
		MeterID:            o.Filter.MeterIDs,
		Page:               1,
		Limit:              1,
	}
	if o.ID != uuid.Nil {
		params.OrganizationID = []uuid.UUID{o.ID}
	}
	listing, err := o.Client.List(ctx, params)
	if err != nil {
		return Probe{}, err
	}
	p := Probe{Rows: listing.Page.TotalCount, Start: listing.Elapsed}
	if p.Rows == 0 && o.ID != uuid.Nil {
		return p, o.checkVisible(ctx, o.Client)
	}
	return p, nil
}

// checkVisible tells an organization without customer meters, or without any that its
// filter lets in, from one that the token cannot see: Polar answers all with an empty list.
func (o *Organization) checkVisible(ctx context.Context, client *fetch.Client) error {
	if !o.Filter.Empty() { // a token that sees several organizations may see this one too
		if seen, err := visible(ctx, client, o.ID); err != nil || seen != uuid.Nil {
			return err
		}
	}
	seen, err := visible(ctx, client)
	if seen != uuid.Nil && seen != o.ID {
		return fmt.Errorf("its token cannot see organization %s but sees %s: correct the organization's id, or use a token of that organization", o.ID, seen)
	}
	return err
}

// visible is the organization, of these or of all, that a token sees, whatever is
// configured; zero if it sees no customer meters.
func visible(ctx context.Context, client *fetch.Client, organizations ...uuid.UUID) (uuid.UUID, error) {
	listing, err := client.List(ctx, fetch.ListParams{OrganizationID: organizations, Page: 1, Limit: 1})
	if err != nil || len(listing.Page.CustomerMeters) == 0 {
		return uuid.Nil, err
	}
	return listing.Page.CustomerMeters[0].Meter.OrganizationID, nil
}
