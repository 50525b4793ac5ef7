package mirror

import (
	"context"
	"time"

	"go.uber.org/zap"

	"polarmirror/internal/store"
)

// Polar disables a webhook endpoint after ten failed deliveries, and tells nobody. The
// mirror stays current all the same, since runs find what changed; that is how the
// silence shows. Whenever a run of the service finds that a customer meter was
// changed, Polar must have sent a webhook about it. If no webhook that was sent since
// has arrived five minutes later, webhooks are silent (the view polar.sync_status has
// the rule). An organization in which nothing changes is not, nor is one whose
// webhooks arrive late.
//
// Changes from before the service began prove nothing: nobody was there to take the
// webhook, and Polar may still try again. Neither do new rows, since Polar also makes
// rows without sending anything.

// noteChange notes the newest change in a block that changed something.
func (r *Run) noteChange(b *store.Block, saved store.Saved) {
	if !r.org.Webhooks || r.mirror.serving.IsZero() || saved.Counts.RowsInserted+saved.Counts.RowsUpdated == 0 {
		return
	}
	for _, m := range b.CustomerMeters {
		if m.ModifiedAt.After(r.mirror.serving) {
			r.foundChange = later(r.foundChange, m.ModifiedAt)
		}
	}
}

// silenceInterval is how often the log says that webhooks are still silent.
const silenceInterval = time.Hour

// silence is when the log last said that an organization's webhooks are silent, by
// label.
type silence map[string]time.Time

// warnOfSilence logs which organizations' webhooks are silent.
func (m *Mirror) warnOfSilence(ctx context.Context, last silence) error {
	for _, org := range m.opts.Organizations {
		status, err := m.status(ctx, org)
		if err != nil {
			return err
		}
		since := status.WebhooksSilentSince
		switch {
		case since.IsZero():
			delete(last, org.Name)
		case !org.Webhooks:
			err = m.opts.Store.ForgetFoundChange(ctx, status.OrganizationID)
		case time.Since(last[org.Name]) > silenceInterval:
			last[org.Name] = time.Now()
			fields := []zap.Field{zap.String("organization", org.Name), zap.Time("change_without_webhook", since)}
			if !status.LastWebhook.IsZero() {
				fields = append(fields, zap.Time("last_webhook", status.LastWebhook))
			}
			m.opts.Log.Warn("webhooks are silent", fields...)
		}
		if err != nil {
			return err
		}
	}
	return nil
}
