package polar

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"
)

// benchmarkBody is a full page: every customer with its own id, ten meters.
func benchmarkBody() string {
	items := make([]string, MaxPageSize)
	for i := range items {
		customer := quoted(fmt.Sprintf("0a3c1f7e-5d2b-4c1a-8e4f-%012x", i))
		meter := quoted(fmt.Sprintf("7f2e4d6c-8b1a-4f3e-a5d7-%012x", i%10))
		items[i] = sampleItem().
			with("id", quoted(fmt.Sprintf("b4a33ab9-2b3c-4b39-9d4b-%012x", i))).
			with("customer_id", customer).with("meter_id", meter).
			with("consumed_units", fmt.Sprintf("%d.25", i*37)).
			with("customer", individual().with("id", customer).String()).
			with("meter", sampleMeter().with("id", meter).String()).String()
	}
	return pageOf(items...)
}

// BenchmarkDecodePage measures a page of 100 items, beside encoding/json into
// structs that hold the same columns and the raw objects.
func BenchmarkDecodePage(b *testing.B) {
	body := []byte(benchmarkBody())
	b.Run("polar", func(b *testing.B) {
		b.SetBytes(int64(len(body)))
		b.ReportAllocs()
		for b.Loop() {
			if page, err := NewDecoder().Page(body); err != nil || len(page.CustomerMeters) != MaxPageSize {
				b.Fatal(err)
			}
		}
	})
	b.Run("polar-remembering", func(b *testing.B) {
		b.SetBytes(int64(len(body)))
		b.ReportAllocs()
		d := NewDecoder()
		for b.Loop() {
			if page, err := d.Page(body); err != nil || len(page.CustomerMeters) != MaxPageSize {
				b.Fatal(err)
			}
		}
	})
	b.Run("encoding-json", func(b *testing.B) {
		b.SetBytes(int64(len(body)))
		b.ReportAllocs()
		for b.Loop() {
			var page plainPage
			if err := json.Unmarshal(body, &page); err != nil || len(page.Items) != MaxPageSize {
				b.Fatal(err)
			}
		}
	})
}

type plainPage struct {
	Items []struct {
		ID            string      `json:"id"`
		CreatedAt     time.Time   `json:"created_at"`
		ModifiedAt    *time.Time  `json:"modified_at"`
		CustomerID    string      `json:"customer_id"`
		MeterID       string      `json:"meter_id"`
		ConsumedUnits json.Number `json:"consumed_units"`
		CreditedUnits int64       `json:"credited_units"`
		Balance       json.Number `json:"balance"`
		Customer      plainCustomer
		Meter         plainMeter
	} `json:"items"`
	Pagination struct {
		TotalCount int `json:"total_count"`
		MaxPage    int `json:"max_page"`
	} `json:"pagination"`
}

type plainCustomer struct {
	ID             string          `json:"id"`
	OrganizationID string          `json:"organization_id"`
	ExternalID     *string         `json:"external_id"`
	Type           string          `json:"type"`
	Email          *string         `json:"email"`
	EmailVerified  bool            `json:"email_verified"`
	Name           *string         `json:"name"`
	BillingName    *string         `json:"billing_name"`
	Metadata       json.RawMessage `json:"metadata"`
	CreatedAt      time.Time       `json:"created_at"`
	ModifiedAt     *time.Time      `json:"modified_at"`
	DeletedAt      *time.Time      `json:"deleted_at"`
}

type plainMeter struct {
	ID             string          `json:"id"`
	OrganizationID string          `json:"organization_id"`
	Name           string          `json:"name"`
	Unit           string          `json:"unit"`
	Aggregation    json.RawMessage `json:"aggregation"`
	Filter         json.RawMessage `json:"filter"`
	Metadata       json.RawMessage `json:"metadata"`
	CreatedAt      time.Time       `json:"created_at"`
	ModifiedAt     *time.Time      `json:"modified_at"`
	ArchivedAt     *time.Time      `json:"archived_at"`
}

// TestUnchangedPagesAllocateLittle guards the allocations of a row without a
// clock: a repeated customer and meter cost nothing beyond their validation.
func TestUnchangedPagesAllocateLittle(t *testing.T) {
	if testing.Short() {
		t.Skip("under the race detector pools of memory forget at random")
	}
	distinct := []byte(benchmarkBody())
	same := []byte(pageOf(strings.Split(strings.Repeat(sampleItem().String()+"\n", MaxPageSize), "\n")[:MaxPageSize]...))
	for _, test := range []struct {
		name string
		body []byte
		most float64 // allocations a row
	}{
		{"own customers", distinct, 22},
		{"one customer and meter", same, 5},
	} {
		got := testing.AllocsPerRun(20, func() {
			if _, err := NewDecoder().Page(test.body); err != nil {
				t.Fatal(err)
			}
		}) / MaxPageSize
		if got > test.most {
			t.Errorf("%s: %.2f allocations a row, want at most %v", test.name, got, test.most)
		}
	}
}
