"""The document of the routes has every route, and none that there is not."""

import json

import httpx2

from fairyring.service.pages import contents
from fairyring.service.serving import Service


def test_every_route_is_described_and_every_description_is_a_route(tmp_path) -> None:
    with Service(tmp_path) as service:
        answer = httpx2.get(f"{service.url}/v1/openapi.json")
        described = answer.json()
        routes = service._server.config.app.routes
    assert answer.status_code == 200
    pages = set(contents())
    there = {(route.path, method) for route in routes for method in route.methods - {"HEAD"}}
    said = {(path, method.upper()) for path, methods in described["paths"].items() for method in methods}
    assert {(path, method) for path, method in there if path not in pages} == said
    text = json.dumps(described)
    for name in {part.partition('"')[0] for part in text.split("#/components/schemas/")[1:]}:
        assert name in described["components"]["schemas"]
