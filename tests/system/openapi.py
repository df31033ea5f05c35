# SPDX-License-Identifier: BSD-2-Clause
"""A host's OpenAPI document: checked with the public schema of OpenAPI 3.1 (from the package openapi-spec-validator)
and a public validator (jsonschema); and answers of hosts, checked against it.

New fields of an answer must be described, too: the document allows further ones, as clients must, this check does not.
"""
import copy
import json
import os
import re
import warnings

import jsonschema

from emulator import BUILD

SCHEMA = os.path.join(BUILD, "deps", "openapi", "schema.json")


def closed(schema):
    """The same objects, but without further fields."""
    if isinstance(schema, list):
        return [closed(s) for s in schema]
    if not isinstance(schema, dict):
        return schema
    schema = {key: closed(s) for key, s in schema.items()}
    if schema.get("type") == "object" and "properties" in schema:
        schema.setdefault("additionalProperties", False)
    return schema


def judge(schema, value, what):
    """AssertionError, in few words, unless the value is as the schema says."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        errors = list(jsonschema.Draft202012Validator(schema).iter_errors(value))
    best = jsonschema.exceptions.best_match(errors)
    assert not best, f"{what}: at {'/'.join(map(str, best.absolute_path))}: {best.message[:500]}"


class Document:
    def __init__(self, text):
        self.document = json.loads(text)
        components = closed(copy.deepcopy(self.document["components"]))
        self.schemas = {"$id": "urn:host", "$schema": "https://json-schema.org/draft/2020-12/schema",
                        "components": components}
        self.paths = [(re.compile(re.sub(r"\\\{\w+\\\}", "[^/]+", re.escape(path)) + r"\Z"), operations)
                      for path, operations in self.document["paths"].items()]
        self.checked = {}                               # "GET /v1/vms/{vm}": number of answers

    def validate(self):
        """Is it an OpenAPI 3.1 document, whose schemas are JSON schemas?"""
        with open(SCHEMA, encoding="utf-8") as f:
            judge(json.load(f), self.document, "the document")
        for schema in self.document["components"]["schemas"].values():
            jsonschema.Draft202012Validator.check_schema(schema)

    def operation(self, method, path):
        for pattern, operations in self.paths:
            if pattern.match(path.partition("?")[0]):
                return operations.get(method.lower())
        return None

    def check(self, method, path, status, body):
        """An answer of this status to that request; a text that is JSON where the document says so."""
        operation = self.operation(method, path)
        if operation is None:
            assert status in (404, 405, 414, 413, 431), f"{method} {path} is not in the document, and answers {status}"
            content = {"application/json": {"schema": {"$ref": "#/components/schemas/Error"}}}
        else:
            content = operation["responses"]["2XX" if status < 300 else "default"]["content"]
        if "application/json" not in content or not status:
            return
        judge({**self.schemas, **content["application/json"]["schema"]}, json.loads(body), f"{method} {path}")
        if operation is not None and status < 300:
            self.checked[operation["summary"]] = self.checked.get(operation["summary"], 0) + 1
