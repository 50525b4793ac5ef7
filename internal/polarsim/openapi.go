package polarsim

import _ "embed"

//go:embed openapi.yaml
var openAPI string

// OpenAPI returns the description of the simulated API, as OpenAPI 3.0 in YAML.
func OpenAPI() []byte { return []byte(openAPI) }
