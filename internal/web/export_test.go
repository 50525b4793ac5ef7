package web

// SecureHeaders are those that a Server gives to every answer.
var SecureHeaders = secureHeaders
