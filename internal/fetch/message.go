package fetch

import (
	"encoding/json"
	"strings"
	"unicode"

	"polarmirror/internal/secret"
)

// Bounds, in bytes, on what of an answer goes into an error.
const (
	maxBodyStart = 200
	maxDetail    = 500
	maxWord      = 100
)

// describe fills in what the answer's body says of its error. What the server
// sent is shown in one line, bounded, and without the token, which a confused
// server may well repeat. Without quote nothing is shown of what is no error in
// Polar's words: it may hold personal data.
func (e *StatusError) describe(body []byte, token secret.Secret, quote bool) {
	hide := func(text string, most int) string { return sanitize(withoutToken(text, token), most) }
	e.ContentType = hide(e.ContentType, maxWord)
	var said struct {
		Error  string          `json:"error"`
		Detail json.RawMessage `json:"detail"`
	}
	if e.Err == nil && json.Unmarshal(body, &said) == nil {
		e.Code = hide(said.Error, maxWord)
		e.Detail = hide(detailText(said.Detail, quote), maxDetail)
	}
	if e.Code == "" && e.Detail == "" && quote {
		// The token is taken out of more than is shown, so that the cut can't
		// leave a part of it.
		e.BodyStart = hide(string(body[:min(len(body), 64<<10)]), maxBodyStart)
	}
}

// detailText is Polar's detail: a sentence, or JSON, such as that of a 422, which
// quotes the request.
func detailText(raw json.RawMessage, quote bool) string {
	var text string
	if json.Unmarshal(raw, &text) != nil && quote {
		return string(raw)
	}
	return text
}

// withoutToken takes the token out of what a server sent.
func withoutToken(text string, token secret.Secret) string {
	if token.IsZero() {
		return text
	}
	return strings.ReplaceAll(text, token.Reveal(), token.String())
}

// sanitize makes text one line of printable UTF-8 of at most most bytes.
func sanitize(text string, most int) string {
	text = strings.Map(func(r rune) rune {
		switch {
		case unicode.IsSpace(r):
			return ' '
		case r == unicode.ReplacementChar || !unicode.IsPrint(r):
			return '?'
		}
		return r
	}, text)
	text = strings.TrimSpace(text)
	if len(text) <= most {
		return text
	}
	return strings.ToValidUTF8(text[:most], "") + "…"
}
