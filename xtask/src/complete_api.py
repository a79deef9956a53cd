"""Gives a REST API what ministack 1.5 leaves out when it imports an API description.

Those are the responses that API Gateway makes by itself. They are read from the deployed template, so that nothing is said
twice. One process, because a start of the AWS CLI for each call takes longer than all calls.

Arguments: stack, logical id of the API, its id, stage.
"""

import sys

import boto3

stack, logical_id, api, stage = sys.argv[1:]
template = boto3.client("cloudformation").get_template(StackName=stack, TemplateStage="Processed")["TemplateBody"]
body = template["Resources"][logical_id]["Properties"]["Body"]
gateway = boto3.client("apigateway")

for kind, response in body.get("x-amazon-apigateway-gateway-responses", {}).items():
    status = {"statusCode": str(response["statusCode"])} if "statusCode" in response else {}
    gateway.put_gateway_response(
        restApiId=api,
        responseType=kind,
        responseParameters=response.get("responseParameters", {}),
        responseTemplates=response.get("responseTemplates", {}),
        **status,
    )

gateway.create_deployment(restApiId=api, stageName=stage)
