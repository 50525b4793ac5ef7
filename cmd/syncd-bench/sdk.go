package main

import "time"

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
