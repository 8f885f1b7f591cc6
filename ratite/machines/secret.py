"""Secrets: passwords and keys that other objects name by id.

Source: QEMU's QMP reference, "SecretProperties". Not modelled: secrets that another one decrypts.
"""

from __future__ import annotations

import base64
import binascii
from enum import Enum
from pathlib import Path
from typing import Annotated

from ratite.core.errors import ConfigError, HostError
from ratite.qom import Doc, Fact, Object, PropertyInfo, TypeName

SIZE_LIMIT = 1 << 20
"""Bytes that a secret may have."""


class SecretFormat(Enum):
    """How it is written."""

    RAW = "raw"
    BASE64 = "base64"


class Secret(Object):
    """A secret, from a file or from the command line. Nobody can read it back."""

    type_name = "secret"

    def __init__(
        self,
        *,
        data: Annotated[str, Doc("the secret itself; others may see the command line")] = "",
        file: Annotated[str, Doc("a file that has it")] = "",
        format: Annotated[SecretFormat, TypeName("QCryptoSecretFormat")] = SecretFormat.RAW,
    ) -> None:
        super().__init__()
        self.data = data
        self.file = file
        self.format = format
        self.value = b""

    @property
    def frozen(self) -> bool:
        """Properties are fixed from the start."""
        return True

    @classmethod
    def fact_infos(cls) -> list[PropertyInfo]:
        """What `facts` names."""
        return [*super().fact_infos(), PropertyInfo("loaded", "bool")]

    def facts(self) -> list[Fact]:
        """What clients can read: it is there from the start."""
        return [*super().facts(), Fact("loaded", "bool", True)]

    def complete(self) -> None:
        """Take the secret. Raises `ConfigError` or `HostError`."""
        if self.data and self.file:
            raise ConfigError("'file' and 'data' are mutually exclusive")
        if not (self.data or self.file):
            raise ConfigError("Either 'file' or 'data' must be provided")
        text = self._read() if self.file else self.data.encode()
        self.data = ""
        try:
            raw = self.format is SecretFormat.RAW
            self.value = text if raw else base64.b64decode(text, validate=True)
        except (binascii.Error, ValueError):
            raise ConfigError("Base64 data contains invalid characters") from None

    def _read(self) -> bytes:
        try:
            with Path(self.file).open("rb") as file:
                text = file.read(SIZE_LIMIT + 1)
        except OSError as error:
            reason = f"Unable to read {self.file}: {error.strerror}"
            raise HostError(reason, error.errno or 0) from error
        if len(text) > SIZE_LIMIT:
            raise ConfigError(f"the secret in '{self.file}' has more than {SIZE_LIMIT} bytes")
        return text
