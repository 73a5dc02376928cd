module govmomi-toolbox

go 1.25.0

require github.com/vmware/govmomi v0.55.0

require (
	github.com/rasky/go-xdr v0.0.0-20170124162913-1a41d1a06c93 // indirect
	github.com/vmware/vmw-guestinfo v0.0.0-20220317130741-510905f0efa3 // indirect
)
