package polarsim

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/google/uuid"
)

// The types of events that are sent.
const (
	CustomerCreated      = "customer.created"
	CustomerUpdated      = "customer.updated"
	CustomerDeleted      = "customer.deleted"
	CustomerStateChanged = "customer.state_changed"
)

// SignWebhook returns the signature of a delivery, for the header
// webhook-signature, as Polar makes it with the secrets that it generated before
// September 2026 and those that sellers choose: the key is the UTF-8 bytes of the
// whole secret, prefix included.
func SignWebhook(secret, id string, at time.Time, body []byte) string {
	return SignWebhookKey([]byte(secret), id, at, body)
}

// SignWebhookKey is SignWebhook with a key that was made of the secret already.
func SignWebhookKey(key []byte, id string, at time.Time, body []byte) string {
	mac := hmac.New(sha256.New, key)
	fmt.Fprintf(mac, "%s.%d.", id, at.Unix()) // a hash takes everything
	mac.Write(body)
	return "v1," + base64.StdEncoding.EncodeToString(mac.Sum(nil))
}

// key is what the endpoint's deliveries are signed with.
func (e WebhookEndpoint) key() ([]byte, error) {
	if !e.Generated {
		return []byte(e.Secret), nil
	}
	text, ok := strings.CutPrefix(e.Secret, "whsec_")
	key, err := base64.StdEncoding.DecodeString(text)
	if !ok || err != nil || len(key) == 0 {
		return nil, fmt.Errorf("webhooks of organization %s: Polar generates no such secret", e.OrganizationID)
	}
	return key, nil
}

// CustomerEvent returns the body of an event of the given type about a customer
// as it is now.
func (s *Server) CustomerEvent(id uuid.UUID, eventType string) ([]byte, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	c := s.customers[id]
	if c == nil {
		return nil, fmt.Errorf("event about customer %s: %w", id, ErrUnknown)
	}
	return appendEvent(nil, eventType, s.now(), c), nil
}

// announce sends events about a customer as it is now, if webhooks are sent.
func (s *Server) announce(c *customer, types ...string) {
	if s.webhooks == nil {
		return
	}
	for _, t := range types {
		s.webhooks.enqueue(c.org.ID, appendEvent(nil, t, s.now(), c), func() []byte {
			return appendEvent(nil, t, s.now(), falsified(c, s.now()))
		})
	}
}

// falsified returns a customer with a state that is not true and looks newer
// than any that is.
func falsified(c *customer, now int64) *customer {
	doc := c.doc()
	doc.Name = new("Mallory")
	doc.ModifiedAt = timeOf(now + time.Hour.Microseconds())
	no := &customer{id: c.id, org: c.org, seed: c.seed, created: c.created, edited: doc}
	for _, r := range c.rows {
		lie := *r
		lie.units = Units{Consumed: "666.5", Credited: "13", Balance: "-653.5"}
		lie.modified = now + time.Hour.Microseconds()
		no.rows = append(no.rows, &lie)
	}
	return no
}

func appendEvent(b []byte, eventType string, at int64, c *customer) []byte {
	c.load()
	b = append(b, `{"type":`...)
	b = appendString(b, eventType)
	b = append(b, `,"timestamp":`...)
	b = appendMicros(b, at)
	b = append(b, `,"data":`...)
	if eventType == CustomerStateChanged {
		b = appendState(b, c)
	} else {
		b = append(b, c.json...)
	}
	return append(b, '}')
}

// appendState writes a customer with its state: the customer's own fields come
// first and look as they do when it is nested in a customer meter.
func appendState(b []byte, c *customer) []byte {
	b = append(b, c.json[:len(c.json)-1]...)
	b = append(b, `,"active_subscriptions":[`...)
	b = appendSubscription(b, c)
	b = append(b, `],"granted_benefits":[`...)
	b = appendBenefit(b, c)
	b = append(b, `],"active_meters":[`...)
	for i, r := range c.rows {
		if i > 0 {
			b = append(b, ',')
		}
		b = appendStateMeter(b, r)
	}
	return append(b, "]}"...)
}

func appendStateMeter(b []byte, r *row) []byte {
	b = appendID(append(b, `{"id":`...), r.id)
	b = appendMicros(append(b, `,"created_at":`...), r.created)
	b = appendMicros(append(b, `,"modified_at":`...), r.modified)
	b = appendID(append(b, `,"meter_id":`...), r.meter.id)
	b = append(append(b, `,"consumed_units":`...), r.units.Consumed...)
	b = append(append(b, `,"credited_units":`...), r.units.Credited...)
	b = append(append(b, `,"balance":`...), r.units.Balance...)
	return append(b, '}')
}

// appendSubscription writes one for two customers of three: it also has meters,
// whose units are those of the subscription alone.
func appendSubscription(b []byte, c *customer) []byte {
	if c.seed%3 == 0 {
		return b
	}
	chance := newRand(c.seed, 5)
	b = appendID(append(b, `{"id":`...), newID(chance))
	b = appendMicros(append(b, `,"created_at":`...), c.created)
	b = append(b, `,"modified_at":null,"custom_field_data":{},"metadata":{"plan":"pro"},"status":"active","amount":`...)
	b = strconv.AppendInt(b, 900+100*chance.Int64N(90), 10)
	b = append(b, `,"currency":"usd","recurring_interval":"month","discount_id":null,"meters":[`...)
	for i, r := range c.rows {
		if i > 0 {
			b = append(b, ',')
		}
		b = appendID(append(b, `{"id":`...), newID(chance))
		b = appendMicros(append(b, `,"created_at":`...), r.created)
		b = append(b, `,"modified_at":null,"consumed_units":1.5,"credited_units":7,"amount":0,"meter_id":`...)
		b = append(appendID(b, r.meter.id), '}')
	}
	return append(b, "]}"...)
}

func appendBenefit(b []byte, c *customer) []byte {
	if c.seed%2 == 0 {
		return b
	}
	chance := newRand(c.seed, 6)
	b = appendID(append(b, `{"id":`...), newID(chance))
	b = appendMicros(append(b, `,"created_at":`...), c.created)
	b = appendMicros(append(b, `,"modified_at":null,"granted_at":`...), c.created)
	b = appendID(append(b, `,"benefit_id":`...), newID(chance))
	return append(b, `,"benefit_type":"meter_credit","benefit_metadata":{},"properties":{}}`...)
}
