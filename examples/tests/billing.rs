//! The example `billing`: its file has a row for each final charge, and its sums equal the limiter's usage.

#[path = "../billing.rs"]
#[expect(dead_code, reason = "its `main` reads the arguments")]
mod billing;

use std::fs;

use billing::bill;
use tempfile::TempDir;

#[tokio::test]
async fn what_is_billed_is_what_was_used() {
    let folder = TempDir::new().unwrap();
    let file = folder.path().join("usage.csv");
    let bill = bill(&file).await.unwrap();
    let rows = fs::read_to_string(&file).unwrap();
    assert_eq!(rows, ROWS);
    assert!(bill.is_right(), "{bill}");
    assert_eq!((bill.billed.requests, bill.billed.tokens), (4, 2_315));
    assert_eq!(bill.billed.credits.to_string(), "12.825");
    assert!(bill.to_string().ends_with("They are equal."), "{bill}");
}

const ROWS: &str = "\
at,key,asset,kind,requests,input_tokens,output_tokens,credits,id
2025-10-09T12:00:00Z,ci,gpt-5,checked,1,900,100,2.125,
2025-10-09T12:00:00Z,ci,haiku,checked,1,40,8,0.13,retry-1
2025-10-09T12:00:00Z,ci,gpt-5,settled,1,120,87,1.02,job-1
2025-10-09T12:00:00Z,ci,gpt-5,settled,1,120,940,9.55,job-2
2025-10-09T12:00:00Z,ci,gpt-5,cancelled,0,0,0,0.00,job-3
";
