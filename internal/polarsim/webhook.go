package polarsim

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"fmt"
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
// webhook-signature. The key is the UTF-8 bytes of the whole secret, prefix
// included, of secrets that Polar generated before September 2026 and those that
// sellers choose, and what is encoded behind the prefix of newer ones.
func SignWebhook(key, id string, at time.Time, body []byte) string {
	mac := hmac.New(sha256.New, []byte(key))
	fmt.Fprintf(mac, "%s.%d.%s", id, at.Unix(), body) // a hash takes everything
	return "v1," + base64.StdEncoding.EncodeToString(mac.Sum(nil))
}

// key is what the endpoint's deliveries are signed with.
func (e WebhookEndpoint) key() string {
	if !e.Generated {
		return e.Secret
	}
	key, _ := base64.StdEncoding.DecodeString(strings.TrimPrefix(e.Secret, "whsec_")) // what is no such secret signs nothing
	return string(key)
}

// CustomerEvent returns the body of an event of the given type about a customer
// as it is now.
func (s *Server) CustomerEvent(id uuid.UUID, eventType string) ([]byte, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	c, err := find(s.customers, "customer", id)
	if err != nil {
		return nil, err
	}
	return event(eventType, s.now(), c), nil
}

// announce sends events about a customer as it is now, if webhooks are sent.
func (s *Server) announce(c *customer, types ...string) {
	if s.webhooks == nil {
		return
	}
	for _, t := range types {
		s.webhooks.deliver(c.org.ID, event(t, s.now(), c), event(t, s.now(), falsified(c, s.now())))
	}
}

// falsified returns a customer with a state that is not true and looks newer
// than any that is.
func falsified(c *customer, now time.Time) *customer {
	later := now.Add(time.Hour)
	lie := &customer{id: c.id, org: c.org, seed: c.seed, created: c.created, edited: c.doc()}
	lie.edited.Name, lie.edited.ModifiedAt = new("Mallory"), Time{later}
	for _, r := range c.rows {
		lie.rows = append(lie.rows, &row{id: r.id, customer: lie, meter: r.meter, created: r.created, modified: later,
			units: Units{Consumed: "666.5", Credited: "13", Balance: "-653.5"}})
	}
	return lie
}

// event renders an event. The customer's own members look as they do when it is
// nested in a customer meter, and come before those of its state.
func event(eventType string, at time.Time, c *customer) []byte {
	data := c.load().json
	if eventType == CustomerStateChanged {
		// The meters of the subscription are a trap: their units are those of the
		// subscription alone.
		chance := newRand(c.seed, 5)
		var meters, ofSubscription []string
		for _, r := range c.rows {
			meters = append(meters, fmt.Sprintf("{%s}", r.members("")))
			ofSubscription = append(ofSubscription, fmt.Sprintf(
				`{"id":"%s","created_at":%s,"modified_at":null,"consumed_units":1.5,"credited_units":7,"amount":0,"meter_id":"%s"}`,
				newID(chance), Time{r.created}, r.meter.ID))
		}
		data = fmt.Appendf(nil, `%s,"active_subscriptions":[{"id":"%s","created_at":%s,"modified_at":null,"custom_field_data":{},"metadata":{"plan":"pro"},`+
			`"status":"active","amount":%d,"currency":"usd","recurring_interval":"month","discount_id":null,"meters":[%s]}],`+
			`"granted_benefits":[{"id":"%s","created_at":%s,"modified_at":null,"granted_at":%[3]s,"benefit_id":"%[6]s",`+
			`"benefit_type":"meter_credit","benefit_metadata":{},"properties":{}}],"active_meters":[%[8]s]}`,
			data[:len(data)-1], newID(chance), Time{c.created}, 900+100*chance.Int64N(90), strings.Join(ofSubscription, ","),
			newID(chance), Time{c.created}, strings.Join(meters, ","))
	}
	return fmt.Appendf(nil, `{"type":"%s","timestamp":%s,"data":%s}`, eventType, Time{at}, data)
}
