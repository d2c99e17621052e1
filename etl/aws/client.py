"""The one way to make a client of an AWS service."""

from __future__ import annotations

from functools import partial
from typing import Any

from botocore.config import Config
from botocore.exceptions import BotoCoreError

from etl.aws.access import Access, known_regions, unusable
from etl.aws.faults import Destination
from etl.errors import SettingsError


def open_client(access: Access, config: Config | None = None) -> Any:
    """Make a client. Calls nothing.

    :raises SettingsError: something in the AWS configuration cannot be used
    """
    try:
        return access.session.create_client(
            access.service,
            region_name=access.region,
            endpoint_url=access.endpoint_url,
            config=config,
        )
    except (BotoCoreError, ValueError) as error:
        raise SettingsError(unusable(error)) from None


def destination(access: Access, client: Any, service: str) -> Destination:
    """Where the calls of a client go.

    :param service: its name in words
    """
    return Destination(
        service=service,
        url=str(client.meta.endpoint_url),
        region=access.region,
        profile=access.profile,
        known_regions=partial(known_regions, access.session),
    )
