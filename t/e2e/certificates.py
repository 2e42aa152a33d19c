"""Certificates for TLS cases, made by the openssl command in a directory of the case's own."""
import os
import ssl
import subprocess


def openssl(*arguments):
    subprocess.run(["openssl", *arguments], check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


class Authority:
    """Signs certificates; `path` is its own."""

    def __init__(self, directory, name="authority"):
        self.directory = directory
        self.path = os.path.join(directory, f"{name}.pem")
        self.key = os.path.join(directory, f"{name}.key")
        openssl("req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2",
                "-subj", f"/CN={name}", "-keyout", self.key, "-out", self.path)

    def sign(self, name, *options):
        """(certificate, key) for 127.0.0.1 and ::1, with the common name `name`."""
        base = os.path.join(self.directory, name)
        request, extensions = base + ".csr", base + ".ext"
        with open(extensions, "w", encoding="ascii") as file:
            file.write("subjectAltName=IP:127.0.0.1,IP:::1\n")
        new_key = options or ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256")
        openssl("req", *new_key, "-nodes", "-subj", f"/CN={name}", "-keyout", base + ".key", "-out", request)
        openssl("x509", "-req", "-in", request, "-CA", self.path, "-CAkey", self.key, "-CAcreateserial", "-days", "2",
                "-extfile", extensions, "-out", base + ".pem")
        return base + ".pem", base + ".key"

    def client(self, certificate=None, newest=ssl.TLSVersion.TLSv1_3, oldest=ssl.TLSVersion.TLSv1_2):
        """What a client trusts and shows."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.load_verify_locations(self.path)
        context.minimum_version, context.maximum_version = oldest, newest
        if oldest < ssl.TLSVersion.TLSv1_2:
            context.set_ciphers("ALL:@SECLEVEL=0")
        if certificate is not None:
            context.load_cert_chain(*certificate)
        return context
