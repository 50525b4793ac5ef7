package config

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/goccy/go-yaml/ast"
	"github.com/google/uuid"

	"polarmirror/internal/secret"
)

// organization decodes one element of organizations.
func (d *decoder) organization(c *Config, v value) {
	var o Organization
	section(fields{
		"name":                scalarInto(label(&o.Name)),
		"id":                  parsedInto(&o.ID, parseID),
		"access_token":        credentialValue(&o.AccessToken, accessToken),
		"access_token_file":   credentialFile(&o.AccessToken, accessToken),
		"webhook_secret":      credentialValue(&o.WebhookSecret, webhookSecret),
		"webhook_secret_file": credentialFile(&o.WebhookSecret, webhookSecret),
		"filter": section(fields{
			"customer_id":          list(elements(&o.Filter.CustomerID, parseID)),
			"external_customer_id": list(elements(&o.Filter.ExternalCustomerID, parseExternalID)),
			"meter_id":             list(elements(&o.Filter.MeterID, parseID)),
		}),
	})(d, v)
	c.Organizations = append(c.Organizations, o)
	switch v.node.(type) {
	case *ast.NullNode, nil:
		d.report(v.at, v.path, "is empty; give it a name, an id and an access_token, or take the dash out")
		return
	case *ast.MappingNode, *ast.MappingValueNode:
	default:
		return // reported by section
	}
	if !d.given(v.path + ".name") {
		d.report(v.at, v.path, "has no name; add name: and a label of your choice, such as acme")
	}
	if !d.given(v.path + ".id") {
		d.report(v.at, v.path, "has no id; add id: and the organization's id at Polar, a UUID")
	}
	if !d.given(v.path+".access_token") && !d.given(v.path+".access_token_file") {
		d.report(v.at, v.path, "has no access token; add access_token: ${POLAR_ACCESS_TOKEN}, or access_token_file: and a path")
	}
	d.exclude(v.path, "access_token", o.AccessToken)
	d.exclude(v.path, "webhook_secret", o.WebhookSecret)
}

// exclude reports a credential that is given twice, at the later place.
func (d *decoder) exclude(path, key string, c Credential) {
	if c.Value.IsZero() || c.File == "" {
		return
	}
	at, file := d.at[path+"."+key], d.at[path+"."+key+"_file"]
	if file.line > at.line || file.line == at.line && file.column > at.column {
		at = file
	}
	d.report(at, path, "has both %s and %s_file; keep one", key, key)
}

// settleOrganizations reports labels and ids that are used twice.
func (d *decoder) settleOrganizations(c *Config) {
	faulty := func(p Problem) bool { return strings.HasPrefix(p.Message, "organizations") }
	if len(c.Organizations) == 0 && !slices.ContainsFunc(d.problems, faulty) {
		d.report(d.place("organizations"), "organizations",
			"want at least one; begin with a line such as \"- name: acme\", and see config.example.yaml")
	}
	names, ids := map[string]int{}, map[uuid.UUID]int{}
	for i, o := range c.Organizations {
		if first, again := names[o.Name]; again && o.Name != "" {
			d.repeated(i, first, "name")
		} else {
			names[o.Name] = i
		}
		if first, again := ids[o.ID]; again && o.ID != uuid.Nil {
			d.repeated(i, first, "id")
		} else {
			ids[o.ID] = i
		}
	}
}

func (d *decoder) repeated(i, first int, key string) {
	path := fmt.Sprintf("organizations[%d].%s", i, key)
	d.report(d.place(path), path, "is that of the organization in line %d too; every one needs its own",
		d.place(fmt.Sprintf("organizations[%d].%s", first, key)).line)
}

// A credentialRule is what a kind of credential must be.
type credentialRule struct {
	required bool // "" is a mistake rather than none
	check    func(string) error
}

var (
	accessToken   = credentialRule{required: true, check: checkToken}
	webhookSecret = credentialRule{check: checkSecret}
)

// credentialValue is the setter of a credential that stands in the
// configuration.
func credentialValue(dst *Credential, rule credentialRule) setter {
	return fromScalar(func(d *decoder, s scalar) error {
		switch {
		case s.text == "" && rule.required:
			return errors.New("is empty")
		case s.text == "":
			return nil
		}
		d.literal = d.literal || len(s.vars) == 0
		dst.Value = secret.New(s.text)
		return rule.check(s.text)
	})
}

// credentialFile is the setter of a credential's path. The file is read now, to
// say now that it can't be used, and again by [Credential.Read].
func credentialFile(dst *Credential, rule credentialRule) setter {
	return fromScalar(func(d *decoder, s scalar) error {
		switch {
		case s.text == "" && rule.required:
			return errors.New("is empty; want the path of a file that holds the token")
		case s.text == "":
			return nil
		}
		dst.File = s.text
		// A path from the environment may be a token under the wrong key.
		name := "the file"
		if len(s.vars) == 0 && keepsNoSecret(s.text) {
			name = s.text
		}
		body, err := d.readFile(s.text)
		if err != nil {
			return fmt.Errorf("read %s: %w", name, fileReason(err))
		}
		value, err := secretText(string(body))
		if err == nil {
			err = rule.check(value.Reveal())
		}
		if err != nil {
			return fmt.Errorf("read %s: %w", name, err)
		}
		if d.open(s.text) {
			d.exposed = append(d.exposed, name+" holds a secret and everyone on this machine can read it; run chmod o-r on it")
		}
		return nil
	})
}

// elements is the setter of one list element that parse returns.
func elements[T any](dst *[]T, parse func(string) (T, error)) func(*decoder, value) {
	return scalarInto(func(text string) error {
		parsed, err := parse(text)
		if err == nil {
			*dst = append(*dst, parsed)
		}
		return err
	})
}

// parseExternalID accepts whatever a seller may call a customer.
func parseExternalID(text string) (string, error) {
	if text == "" {
		return "", errors.New("want a customer's id in your own system, not an empty text")
	}
	return text, nil
}
