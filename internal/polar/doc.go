// Package polar is the domain: customer meters, customers, meters and pages as
// Polar sends them, with their decoding.
//
// Its invariant: what was on the wire is what a value holds. Quantities keep
// their digits ([Decimal]), fields unknown today are kept (Extra, Raw), and an
// item that can't be used is a [RejectedRow] with its text and the reason,
// never an item that is silently missing. The package knows neither HTTP nor
// SQL.
package polar
