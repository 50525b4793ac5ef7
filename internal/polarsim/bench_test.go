package polarsim

import (
	"fmt"
	"math/rand/v2"
	"net/url"
	"testing"
)

func BenchmarkNew(b *testing.B) {
	for _, n := range []int{20, 1_000_000} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			for b.Loop() {
				New(rows(n))
			}
		})
	}
}

// rendered returns a reader of a million rows whose text is there already.
func rendered() *reader {
	c := read(rows(1_000_000))
	c.server.Snapshot(c.org.ID)
	return c
}

// BenchmarkPage reads full pages at any depth of a million rows, in the order of
// the walk and in the default one, whose ties are shuffled.
func BenchmarkPage(b *testing.B) {
	c := rendered()
	for _, sorting := range []string{"created_at&sorting=customer_id&sorting=meter_id", "-created_at&sorting=customer_id&sorting=meter_id", "-modified_at"} {
		b.Run(sorting, func(b *testing.B) {
			chance := rand.New(rand.NewPCG(1, 1))
			c.do(b, listPath+"?sorting="+sorting).Body.Close() // sorts
			for b.Loop() {
				c.do(b, fmt.Sprintf("%s?limit=100&page=%d&sorting=%s", listPath, 1+chance.IntN(10_000), sorting)).Body.Close()
			}
		})
	}
}

// BenchmarkSet reads the rows of 25 customers out of a million rows.
func BenchmarkSet(b *testing.B) {
	c := rendered()
	chance, customers := rand.New(rand.NewPCG(1, 1)), c.server.organizations[0].customers
	for b.Loop() {
		query := url.Values{"limit": {"100"}, "sorting": {"created_at", "customer_id", "meter_id"}}
		first := chance.IntN(len(customers) - 25)
		for _, customer := range customers[first : first+25] {
			query.Add("customer_id", customer.id.String())
		}
		c.do(b, listPath+"?"+query.Encode()).Body.Close()
	}
}
