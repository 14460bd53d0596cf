from tests.api.conftest import *
def test_smoke(client, worker):
    r=client.post('/v1/jobs',json={'prompt':'hi','agent':'a/b','tags':['x']}); print(r.status_code,r.headers,r.text)
    jid=r.json()['id']
    print(client.get(f'/v1/jobs/{jid}?wait=0.1').text)
    worker.run_all()
    r=client.get(f'/v1/jobs/{jid}?wait=5'); print(r.text,r.headers)
    print(client.get(f'/v1/jobs/{jid}',headers={'If-None-Match':r.headers['etag']}).status_code)
    print(client.get(f'/v1/jobs/{jid}/events').text)
    print(client.get(f'/v1/jobs/{jid}/events?stream=true').text)
    for p in ('/v1/jobs?limit=1','/v1/jobs?x=1','/v1/agents','/v1/agents/a/b','/v1/llms','/v1/workers','/v1/queues','/v1/keys','/v1/costs','/v1/audit','/health/live','/health/ready','/health/startup','/nope','/v1/jobs/job_1','/v1/jobs?limit=500','/v1/jobs?cursor=abc'):
        r=client.get(p); print(p,r.status_code,r.text[:300])
    print(client.get('/metrics').text[-1500:])
    r=client.post('/v1/bulk',json={'jobs':[{'prompt':'a'},{'prompt':'b','agent':'z'}]}); print(r.status_code,r.text)
    r=client.get(r.headers['location']); print(r.text)
    r=client.post('/v1/bulk',content='{"prompt":"a"}\n{"prompt":1}\n{',headers={'content-type':'application/jsonl'}); print(r.status_code,r.text)
    print(client.post(f'/v1/jobs/{jid}/retry').text, client.delete(f'/v1/jobs/{jid}').status_code)
    print(client.put('/v1/jobs').text)
