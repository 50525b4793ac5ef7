package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"

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
func plainScript(ctx context.Context, spec workerSpec) (workerResult, error) {
	conn, err := pgx.Connect(ctx, spec.URL)
	if err != nil {
		return workerResult{}, err
	}
	defer conn.Close(ctx)
	client := newHTTPClient(1)
	var result workerResult
	for page := 1; ; page++ {
		list, err := plainPage(ctx, client, spec.Polar, page)
		if err != nil {
			return result, err
		}
		result.Requests++
		if err := plainSave(ctx, conn, list.Items); err != nil {
			return result, fmt.Errorf("page %d: %w", page, err)
		}
		result.Rows += len(list.Items)
		if page >= list.Pagination.MaxPage {
			return result, nil
		}
	}
}

func plainPage(ctx context.Context, client *http.Client, p polarInfo, page int) (*sdkList, error) {
	var list sdkList
	err := getPage(ctx, client, p, page, func(body io.Reader) error {
		text, err := io.ReadAll(body)
		if err != nil {
			return err
		}
		return json.Unmarshal(text, &list)
	})
	return &list, err
}

func plainSave(ctx context.Context, conn *pgx.Conn, rows []sdkCustomerMeter) error {
	batch := &pgx.Batch{}
	for i := range rows {
		m := &rows[i]
		batch.Queue(plainUpsert, m.ID, m.CustomerID, m.MeterID, m.ConsumedUnits, m.CreditedUnits, m.Balance, m.CreatedAt, m.ModifiedAt)
	}
	return conn.SendBatch(ctx, batch).Close()
}
