--- What Kong's nginx module does with a client's TLS connection, by OpenSSL's own functions.

local base = require "resty.core.base"
local ffi = require "ffi"
local ngx_ssl = require "ngx.ssl"

local C = ffi.C
local ffi_new = ffi.new
local ffi_string = ffi.string
local concat = table.concat
local get_request = base.get_request
local tonumber = tonumber

ffi.cdef [[
  void *kong_host_get_ssl(void *r, const char **err) __asm__("ngx_http_lua_ffi_get_req_ssl_pointer");
  void *SSL_get1_peer_certificate(const void *ssl);
  void *SSL_get_peer_cert_chain(const void *ssl);
  uint64_t SSL_set_options(void *ssl, uint64_t options);
  void *SSL_get_session(const void *ssl);
  int SSL_SESSION_set1_id_context(void *session, const unsigned char *context, unsigned int len);
  int RAND_bytes(unsigned char *buffer, int n);
  void X509_free(void *cert);
  int OPENSSL_sk_num(const void *stack);
  void *OPENSSL_sk_value(const void *stack, int i);
  void *BIO_new(const void *method);
  const void *BIO_s_mem(void);
  int BIO_free(void *bio);
  long BIO_ctrl(void *bio, int command, long number, void *pointer);
  int PEM_write_bio_X509(void *bio, void *cert);
]]

local SSL_OP_NO_TICKET = 0x4000
local BIO_CTRL_INFO = 3

local errmsg = ffi_new("const char *[1]")

local _M = {}


local function get_ssl()
  local ssl = C.kong_host_get_ssl(get_request(), errmsg)
  return ssl ~= nil and ssl or nil
end


--- Asks the client for a certificate, and takes any.
function _M.request_client_certificate()
  return ngx_ssl.verify_client(nil, 0)
end


--- No tickets, and an identifier that no other connection has.
function _M.disable_session_reuse()
  local ssl = get_ssl()
  if not ssl then
    return nil, "connection is not TLS or TLS support for Nginx not enabled"
  end
  local context = ffi_new("unsigned char[32]")
  C.RAND_bytes(context, 32)
  C.SSL_set_options(ssl, SSL_OP_NO_TICKET)
  C.SSL_SESSION_set1_id_context(C.SSL_get_session(ssl), context, 32)
  return true
end


local function pem(cert)
  local bio, data = C.BIO_new(C.BIO_s_mem()), ffi_new("char *[1]")
  C.PEM_write_bio_X509(bio, cert)
  local len = tonumber(C.BIO_ctrl(bio, BIO_CTRL_INFO, 0, data))
  local text = ffi_string(data[0], len)
  C.BIO_free(bio)
  return text
end


--- The client's certificate and what came with it, as PEM. nil without certificate, and on a resumed session, which has
-- no chain.
function _M.get_full_client_certificate_chain()
  local ssl = get_ssl()
  if not ssl then
    return nil, "connection is not TLS or TLS support for Nginx not enabled"
  end
  local chain = C.SSL_get_peer_cert_chain(ssl)
  local cert = C.SSL_get1_peer_certificate(ssl)
  if cert == nil then
    return nil
  end
  local certs = { pem(cert) }
  C.X509_free(cert)
  if chain == nil then
    return nil
  end
  for i = 0, C.OPENSSL_sk_num(chain) - 1 do
    certs[#certs + 1] = pem(C.OPENSSL_sk_value(chain, i))
  end
  return concat(certs)
end


return _M
