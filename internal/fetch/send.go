package fetch

import (
	"context"
	"errors"
	"fmt"
	"time"

	"go.uber.org/zap"
)

// send makes the attempts of one call until one succeeds or no other is worth
// it.
//
// A failure is retried as its class says (see the constants). The answer 429 is
// none: everybody with the token waits as long as Polar asks and goes on.
func (c *Client) send(ctx context.Context, call *call) (Timing, error) {
	token, err := c.opts.Token.get()
	if err == nil && token.IsZero() {
		err = errors.New("empty")
	}
	if err != nil {
		return Timing{}, fmt.Errorf("organization %s: access token: %w", c.opts.Organization, err)
	}
	a := attempts{retry: c.opts.Retry}
	began, paced := time.Now(), time.Duration(0)
	for {
		limiter := c.opts.Limiters.For(token)
		came := time.Now()
		first, err := limiter.wait(ctx)
		waited := time.Since(came)
		paced += waited
		c.opts.Observer.Waited(c.opts.Organization, waited)
		if err != nil {
			return Timing{}, fmt.Errorf("organization %s: %w", c.opts.Organization, context.Cause(ctx))
		}
		call.sent++
		x, f := c.attempt(ctx, call, token)
		// 429 may come from before the token was looked at.
		limiter.done(first, f == nil || f.status != 0 && f.class != rateLimited && f.class != transient)
		c.opts.Observer.Requested(c.opts.Organization, classify(ctx, f), x.Elapsed)
		switch {
		case f == nil:
			x.Took = time.Since(began) - paced
			return x, nil
		case ctx.Err() != nil:
			return x, fmt.Errorf("organization %s: %w", c.opts.Organization, context.Cause(ctx))
		}
		call.widen(f)
		if f.class == rateLimited {
			c.counters.RateLimited.Add(1)
		}
		wait, again := a.next(*f, time.Now())
		if f.class == unauthorized && !a.refreshed {
			a.refreshed = true
			newer, err := c.opts.Token.reread()
			if err != nil {
				return x, fmt.Errorf("%w (reading the access token again: %w)", f.err, err)
			}
			token, again = newer, !newer.Equal(token)
		}
		if !again {
			return x, f.err
		}
		c.logRetry(call, f, wait)
		if f.class == rateLimited {
			limiter.Pause(time.Now().Add(wait)) // and wait in line with the others
			continue
		}
		c.counters.Retries.Add(1)
		c.opts.Observer.Retried(c.opts.Organization)
		if err := sleep(ctx, wait); err != nil {
			return x, fmt.Errorf("organization %s: %w", c.opts.Organization, context.Cause(ctx))
		}
	}
}

// logRetry writes the one line of a failure that is not the last.
func (c *Client) logRetry(call *call, f *failure, wait time.Duration) {
	c.opts.Log.Warn("request retried",
		zap.String("organization", c.opts.Organization),
		zap.String("path", call.path),
		zap.Int("page", call.page),
		zap.Int("status", f.status),
		zap.Int("attempt", call.sent),
		zap.Duration("wait", wait),
		zap.Error(f.err))
}
