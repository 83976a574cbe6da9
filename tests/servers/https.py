"""METHOD URL TOKEN: sends one request, with standard input as its body, to a server of the tests on this machine.

Prints the status code on a line and then the body of the answer. Certificates are not checked.
"""

import ssl
import sys
import urllib.error
import urllib.request

method, url, token = sys.argv[1:]
body = sys.stdin.buffer.read() or None
kind = "application/apply-patch+yaml" if method == "PATCH" else "application/yaml"
headers = {"Authorization": f"Bearer {token}", "Content-Type": kind, "Accept": "application/json"}
request = urllib.request.Request(url, body, headers, method=method)
context = ssl.create_default_context()
context.check_hostname = False
context.verify_mode = ssl.CERT_NONE
# A proxy of the environment is for the world outside.
opener = urllib.request.build_opener(urllib.request.ProxyHandler({}), urllib.request.HTTPSHandler(context=context))
try:
    answer = opener.open(request, timeout=10)
except urllib.error.HTTPError as refused:
    answer = refused
print(answer.status)
sys.stdout.write(answer.read().decode())
