//go:build sources

package check

// The tests read the sources of these, which is a matter of a moment, where
// compiling them takes minutes.
import (
	_ "k8s.io/api/apps/v1"
	_ "k8s.io/api/core/v1"
	_ "k8s.io/api/networking/v1"
	_ "k8s.io/api/policy/v1"
	_ "k8s.io/apimachinery/pkg/apis/meta/v1"
)
