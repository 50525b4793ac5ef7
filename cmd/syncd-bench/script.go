package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"time"

	"github.com/jackc/pgx/v5"
)

// The plain script is what a competent user writes around the official SDK: one
// page after the other, every field decoded as the SDK does, eight columns of
// the customer meter upserted with one batch a page. It keeps neither customers
// nor history, and notices no deletion.

const plainTable = `
CREATE TABLE public.customer_meters (
    id             uuid PRIMARY KEY,
    customer_id    uuid NOT NULL,
    meter_id       uuid NOT NULL,
    consumed_units double precision NOT NULL,
    credited_units bigint NOT NULL,
    balance        double precision NOT NULL,
    created_at     timestamptz NOT NULL,
    modified_at    timestamptz
)`

const plainUpsert = `
INSERT INTO public.customer_meters (
    id,
    customer_id,
    meter_id,
    consumed_units,
    credited_units,
    balance,
    created_at,
    modified_at
)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8)
ON CONFLICT (id) DO UPDATE
SET
    customer_id = excluded.customer_id,
    meter_id = excluded.meter_id,
    consumed_units = excluded.consumed_units,
    credited_units = excluded.credited_units,
    balance = excluded.balance,
    created_at = excluded.created_at,
    modified_at = excluded.modified_at`

// plainScript mirrors every page into a database that holds plainTable.
func (j *job) plainScript(ctx context.Context) (rows int, err error) {
	conn, err := pgx.Connect(ctx, j.Database)
	if err != nil {
		return 0, err
	}
	defer conn.Close(ctx)
	client := &http.Client{Timeout: time.Minute}
	for number := 1; ; number++ {
		list, err := j.plainPage(ctx, client, number)
		if err != nil {
			return rows, err
		}
		batch := &pgx.Batch{}
		for i := range list.Items {
			m := &list.Items[i]
			batch.Queue(plainUpsert, m.ID, m.CustomerID, m.MeterID, m.ConsumedUnits, m.CreditedUnits, m.Balance, m.CreatedAt, m.ModifiedAt)
		}
		if err := conn.SendBatch(ctx, batch).Close(); err != nil {
			return rows, fmt.Errorf("page %d: %w", number, err)
		}
		rows += len(list.Items)
		if number >= list.Pagination.MaxPage {
			return rows, nil
		}
	}
}

func (j *job) plainPage(ctx context.Context, client *http.Client, number int) (*sdkList, error) {
	body, err := j.getPage(ctx, client, number)
	if err != nil {
		return nil, err
	}
	defer body.Close()
	text, err := io.ReadAll(body)
	if err != nil {
		return nil, err
	}
	var list sdkList
	return &list, json.Unmarshal(text, &list)
}

// The structs below have the fields and types that a generated SDK has for the
// answer of the list call.

type sdkList struct {
	Items      []sdkCustomerMeter `json:"items"`
	Pagination struct {
		TotalCount int `json:"total_count"`
		MaxPage    int `json:"max_page"`
	} `json:"pagination"`
}

type sdkCustomerMeter struct {
	ID            string      `json:"id"`
	CreatedAt     time.Time   `json:"created_at"`
	ModifiedAt    *time.Time  `json:"modified_at"`
	CustomerID    string      `json:"customer_id"`
	MeterID       string      `json:"meter_id"`
	ConsumedUnits float64     `json:"consumed_units"`
	CreditedUnits int64       `json:"credited_units"`
	Balance       float64     `json:"balance"`
	Customer      sdkCustomer `json:"customer"`
	Meter         sdkMeter    `json:"meter"`
}

type sdkCustomer struct {
	ID                     string         `json:"id"`
	CreatedAt              time.Time      `json:"created_at"`
	ModifiedAt             *time.Time     `json:"modified_at"`
	Metadata               map[string]any `json:"metadata"`
	ExternalID             *string        `json:"external_id"`
	Email                  *string        `json:"email"`
	EmailVerified          bool           `json:"email_verified"`
	Type                   string         `json:"type"`
	Name                   *string        `json:"name"`
	BillingName            *string        `json:"billing_name"`
	BillingAddress         *sdkAddress    `json:"billing_address"`
	TaxID                  []string       `json:"tax_id"`
	Locale                 *string        `json:"locale"`
	OrganizationID         string         `json:"organization_id"`
	DefaultPaymentMethodID *string        `json:"default_payment_method_id"`
	DeletedAt              *time.Time     `json:"deleted_at"`
	FirstUserEventAt       *time.Time     `json:"first_user_event_at"`
	AvatarURL              *string        `json:"avatar_url"`
}

type sdkAddress struct {
	Line1      *string `json:"line1"`
	Line2      *string `json:"line2"`
	PostalCode *string `json:"postal_code"`
	City       *string `json:"city"`
	State      *string `json:"state"`
	Country    string  `json:"country"`
}

type sdkMeter struct {
	Metadata         map[string]any `json:"metadata"`
	CreatedAt        time.Time      `json:"created_at"`
	ModifiedAt       *time.Time     `json:"modified_at"`
	ID               string         `json:"id"`
	Name             string         `json:"name"`
	Unit             string         `json:"unit"`
	CustomLabel      *string        `json:"custom_label"`
	CustomMultiplier *int64         `json:"custom_multiplier"`
	Filter           sdkFilter      `json:"filter"`
	Aggregation      sdkAggregation `json:"aggregation"`
	OrganizationID   string         `json:"organization_id"`
	ArchivedAt       *time.Time     `json:"archived_at"`
}

// An sdkFilter's clauses are conditions or filters again.
type sdkFilter struct {
	Conjunction string      `json:"conjunction"`
	Clauses     []sdkClause `json:"clauses"`
}

type sdkClause struct {
	Property    string      `json:"property"`
	Operator    string      `json:"operator"`
	Value       any         `json:"value"`
	Conjunction string      `json:"conjunction"`
	Clauses     []sdkClause `json:"clauses"`
}

type sdkAggregation struct {
	Func     string `json:"func"`
	Property string `json:"property"`
}
